"""Models that read texts, and texts that a model continues."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import zoo
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.zoo.model import of

pytestmark = pytest.mark.tensorflow
TEXTS = ["x y", "", "y é"]


def vectorizer(symbols, split="whitespace"):
    return keras.layers.TextVectorization(
        vocabulary=list(symbols), split=split, standardize=None, name="vectorizer"
    )


def tagger(size):
    return zoo.many_to_many(zoo.Tokens(size, 4), zoo.Classes(3), cell="gru", units=3, name="tagger")


class Series:
    """Like a filtered pandas Series, in which no row has the label 0."""

    ndim, shape = 1, (3,)

    def __iter__(self):
        return iter(TEXTS)

    def __len__(self):
        return 3

    def __getitem__(self, label):
        raise KeyError(label)


@pytest.fixture(scope="module")
def model():
    core = zoo.many_to_one(zoo.Tokens(4, 2), zoo.Classes(2), cell="gru", units=3)
    return zoo.of_texts(core, {"sequence": vectorizer(["x", "y"])}, longest=3)


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array([line.encode() for line in TEXTS]),
        Series(),
        types.MappingProxyType(dict.fromkeys(TEXTS)).keys(),
        tf.constant(TEXTS),
    ],
    ids=["list", "tuple", "strings", "objects", "bytes", "series", "keys", "tensor"],
)
def test_texts_of_every_kind(model, given):
    expected = model(tf.constant(TEXTS))
    reads = of(model)
    assert isinstance(reads, zoo.Model)
    np.testing.assert_array_equal(reads(given), expected)
    np.testing.assert_allclose(reads.predict(given, verbose=0), expected, atol=1e-6)


def test_generators_and_datasets(model):
    expected = model(tf.constant(TEXTS))
    reads = of(model)
    np.testing.assert_array_equal(reads(line for line in TEXTS), expected)
    found = reads.predict((line for line in TEXTS), batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2)
    np.testing.assert_allclose(reads.predict(batches, verbose=0), expected, atol=1e-6)


def test_models_of_texts_are_saved(model, tmp_path):
    reads = of(model)
    assert [layer.name for layer in reads.layers] == [layer.name for layer in model.layers]
    assert zoo.of_ids(reads) is zoo.of_ids(model)
    reads.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, zoo.Model)
    np.testing.assert_array_equal(again(TEXTS), reads(TEXTS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "=None: expected a list of texts"),
        ("x y", "='x y': expected a list of texts"),
        (b"x y", "=b'x y': expected a list of texts"),
        (3, "=3: expected a list of texts"),
        ([], r"=\[\]: expected a list of texts"),
        (["x", 3], r"\[1\]=3: expected a text"),
        (["x", float("nan")], r"\[1\]=nan: expected a text"),
        (["x", None], r"\[1\]=None: expected a text"),
        (["x", "\udcff"], r"\[1\]=.* expected text that can be encoded as UTF-8"),
        (np.array("x"), r" has the shape \(\); expected a list of texts"),
        (np.array([["x"], ["y"]]), r" has the shape \(2, 1\); expected a list of texts"),
    ],
    ids=str,
)
def test_invalid_texts(model, given, message):
    reads = of(model)
    with pytest.raises(ValueError, match=f"^inputs{message}"):
        reads(given)
    with pytest.raises(ValueError, match=f"^x{message}"):
        reads.predict(given, verbose=0)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_sizes_of_batches(model, size):
    with pytest.raises(ValueError, match=f"batch_size={size}: expected a positive integer"):
        of(model).predict(TEXTS, batch_size=size)


def test_a_vectorizer_is_added_and_removed():
    numbers = vectorizer(["a", "dog", "cow", "the", "and"])
    model = tagger(len(numbers.get_vocabulary()))
    whole = zoo.of_texts(model, {"sequence": numbers})
    found = whole(tf.constant(["a cow", "the pig and a dog"]))
    expected = model(numbers(["a cow", "the pig and a dog"]))
    np.testing.assert_array_equal(found, expected)
    # Padding is masked.
    np.testing.assert_array_equal(get_keras_mask(found), [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert zoo.of_ids(whole) is model
    assert [tensor.name for tensor in whole.inputs] == ["sequence"]
    assert whole.name == "tagger_of_text"


@keras.saving.register_keras_serializable(package="test_texts")
class Weighted(zoo.Classes):
    """Classes that are decoded with the weights of the output layer."""

    def decode(self, predictions, layer, mask=None):
        return keras.ops.matmul(predictions, keras.ops.transpose(layer.kernel))


def test_text_models_decode_as_the_models_of_ids(tmp_path):
    core = zoo.many_to_one(zoo.Tokens(4, 2), Weighted(2), cell="gru", units=3)
    whole = zoo.of_texts(core, {"sequence": vectorizer(["x", "y"])})
    whole.compile("sgd", jit_compile=False)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ids = np.array([[2, 3], [0, 0], [3, 1]])
    probabilities = np.asarray(core(ids))
    expected = probabilities @ np.asarray(core.head.kernel).T
    cross_entropy = -np.log(probabilities[[0, 1, 2], [1, 0, 1]]).mean()
    for model in (whole, loaded):
        assert model.evaluate(TEXTS, np.array([1, 0, 1]), verbose=0)[0] == pytest.approx(
            cross_entropy, rel=1e-5
        )
        np.testing.assert_allclose(
            zoo.decoded(model).predict(TEXTS, verbose=0), expected, rtol=1e-5
        )


def test_only_the_named_inputs_take_text():
    numbers = vectorizer(["x", "y"])
    model = zoo.one_to_many(zoo.Labels(3, 2), zoo.Classes(4), cell="gru", units=3)
    whole = zoo.of_texts(model, {"previous": numbers})
    assert [(x.name, x.dtype) for x in whole.inputs] == [
        ("source", "int32"),
        ("previous", "string"),
    ]
    labels = tf.constant([0, 2])
    np.testing.assert_array_equal(
        whole([labels, tf.constant(["x y x", "y"])]), model([labels, numbers(["x y x", "y"])])
    )
    assert zoo.of_ids(whole) is model


def test_text_beside_features(tmp_path):
    """The numbers are read in full precision, also by the decoded model."""
    inputs = zoo.Inputs(
        words=zoo.Tokens(4, 2),
        genre=zoo.Labels(3, 2),
        static={"year": zoo.Vectors(1, mean=1990, std=5)},
    )
    core = zoo.many_to_one(inputs, zoo.Classes(3), cell="gru", units=3)
    numbers = vectorizer(["x", "y"])
    whole = zoo.of_texts(core, {"words": numbers})
    data = {"words": ["x y x", "", "y"], "genre": [0, 2, 1], "year": [[1987], [1990], [2003]]}
    ids = np.array([[2, 3, 2], [0, 0, 0], [3, 0, 0]])
    expected = core.predict({**data, "words": ids}, verbose=0)
    np.testing.assert_array_equal(whole.predict(data, verbose=0), expected)
    decoded = zoo.decoded(whole)
    decoded.save(tmp_path / "model.keras")
    for model in (decoded, keras.saving.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(model.predict(data, verbose=0), expected.argmax(axis=-1))


def test_texts_of_a_model_of_inputs_by_name():
    features, ids = keras.Input((2,), name="a"), keras.Input((None,), dtype="int32", name="b")
    mean = kerasrnn.SequencePooling()(keras.layers.Embedding(4, 3, mask_zero=True)(ids))
    core = zoo.Model({"b": ids, "a": features}, keras.layers.Concatenate()([mean, features]))
    whole = zoo.of_texts(core, {"b": vectorizer(["x", "y"])})
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = core.predict({"a": x, "b": np.array([[2, 3], [3, 0]])}, verbose=0)
    np.testing.assert_array_equal(whole.predict({"a": x, "b": ["x y", "y"]}, verbose=0), expected)


@pytest.mark.parametrize("longest", [None, 5])
def test_outputs_have_the_steps_of_the_texts(longest):
    """One step if no text has symbols."""
    model = zoo.many_to_many(zoo.Tokens(4, 2), zoo.Classes(2), cell="gru", units=3)
    whole = zoo.of_texts(model, {"sequence": vectorizer(["x", "y"])}, longest)
    for texts, ids in ((["x y", ""], [[2, 3], [0, 0]]), (["", " "], [[0], [0]])):
        np.testing.assert_array_equal(
            whole.predict(texts, verbose=0), model.predict(np.array(ids), verbose=0)
        )


def test_invalid_vectorizers():
    model = zoo.one_to_many(zoo.Labels(3, 2), zoo.Classes(4), cell="gru", units=3)
    one_hot = keras.layers.TextVectorization(vocabulary=["x", "y"], output_mode="multi_hot")
    for vectorizers, message in (
        ({"source": vectorizer(["x"])}, r"vectorizers has 'source': expected .*: 'previous'\."),
        ({}, r"vectorizers=\{\}: expected a dict of layers by input: 'previous'\."),
        (vectorizer(["x"]), r"vectorizers=<TextVectorization.*: expected a dict of layers"),
        ({"previous": str.split}, r"vectorizers\['previous'\]=.*: expected a Keras layer\."),
        ({"previous": one_hot}, r"\['previous'\]: output_mode='multi_hot': expected 'int'\."),
        (
            {"previous": vectorizer(["x", "y", "z"])},
            r"vectorizers\['previous'\] has 5 symbols, .*: expected at most 4, the number of ids",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.of_texts(model, vectorizers)
    with pytest.raises(ValueError, match="longest=0: expected a positive integer"):
        zoo.of_texts(model, {"previous": vectorizer(["x"])}, longest=0)


def test_long_texts_are_truncated_and_empty_texts_allowed():
    numbers = vectorizer(["x", "y"])
    model = zoo.many_to_one(zoo.Tokens(4, 2), zoo.Classes(2), cell="gru", units=3, pooling="max")
    whole = zoo.of_texts(model, {"sequence": numbers}, longest=3)
    cut = whole(tf.constant(["x y y x x x", "y"]))
    np.testing.assert_array_equal(cut, whole(tf.constant(["x y y", "y"])))
    assert np.abs(cut - model(numbers(["x y y x x x", "y"])))[0].max() > 1e-4
    # Padding does not change the result.
    np.testing.assert_allclose(cut, model(np.array([[2, 3, 3], [3, 0, 0]])), atol=1e-7)
    empty = whole(tf.constant(["", " "]))
    np.testing.assert_allclose(empty, model(np.zeros((2, 1), "int32")), atol=1e-7)


def test_vocabularies_of_white_space_are_saved(tmp_path):
    symbols = ["e", "\n", " ", "\t", "\r", "'", "é"]
    whole = zoo.of_texts(
        tagger(len(symbols) + 2), {"sequence": vectorizer(symbols, split="character")}, 9
    )
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.get_layer("vectorizer").get_vocabulary() == ["", "[UNK]", *symbols]
    texts = tf.constant(["e\n \t\r'é?", "\n"])
    np.testing.assert_array_equal(loaded(texts), whole(texts))
    assert zoo.of_ids(loaded).name == "tagger"


def writer(symbols, follows, split="character"):
    """A model that predicts after each symbol the one that `follows` it.

    The update gate is closed, so the state is the candidate, which depends on the symbol alone.
    """
    numbers = vectorizer(symbols, split)
    known = numbers.get_vocabulary()
    size = len(known)
    model = zoo.next_step(zoo.Classes(size), cell="gru", units=size, embedding_units=size)
    decoder = model.get_layer("decoder")
    for weight in decoder.weights:
        weight.assign(np.zeros(weight.shape))
    decoder.embedding.embeddings.assign(np.eye(size))
    kernel, _, bias = decoder.stack.layers[0].weights
    shut = np.zeros(bias.shape)
    shut[..., :size] = -25.0
    bias.assign(shut)
    kernel.assign(np.concatenate([np.zeros((size, 2 * size)), 5 * np.eye(size)], axis=1))
    readout = np.zeros((size, size))
    for before, after in follows.items():
        readout[known.index(before), known.index(after)] = 100.0
    decoder.readout.weights[0].assign(readout)
    return zoo.of_texts(model, {"sequence": numbers})


def test_texts_are_continued_symbol_by_symbol():
    model = writer("abc", {"a": "b", "b": "c", "c": "a", "[UNK]": "c"})
    assert zoo.continue_texts(model, ["a", "bc", "ax"], max_length=4) == [
        "abcab",
        "bcabca",
        "axcabc",
    ]
    sampler = kerasrnn.decoding.Sample()
    assert zoo.continue_texts(model, ["a"], sampler, 3, seed=1) == ["abca"]
    words = writer(["one", "two"], {"one": "two", "two": "one"}, "whitespace")
    assert zoo.continue_texts(words, ["one", "two  one"], max_length=2) == [
        "one two one",
        "two  one two one",
    ]


def test_an_edge_starts_and_ends_texts():
    model = writer("\nabc", {"\n": "a", "a": "b", "b": "c", "c": "\n"})
    beginnings = ["", "b", "abcab", "ba"]
    expected = ["abc", "bc", "abcabc", "babc"]  # one has no room to end
    assert zoo.continue_texts(model, beginnings, max_length=6, edge="\n") == expected
    assert zoo.continue_texts(model, [""], max_length=2, edge="\n") == ["ab"]
    assert zoo.continue_texts(model, [""] * 3, max_length=5, edge="\n", batch_size=2) == ["abc"] * 3


def test_the_unknown_symbol_is_not_generated():
    model = writer("ab", {"a": "[UNK]", "[UNK]": "b", "b": "b"})
    (found,) = zoo.continue_texts(model, ["a"], max_length=3)
    assert set(found) <= set("ab")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a", ""], {}, r"texts\[1\]='': expected at least one symbol"),
        (
            ["a", "abc"],
            {"edge": "\n", "max_length": 3},
            r"texts\[1\] has 3 symbols; .* max_length, 3",
        ),
        (["a"], {"edge": "x"}, "edge='x': expected a symbol of the model"),
        (["a"], {"max_length": 0}, "max_length=0: expected a positive integer"),
        ("a", {}, "texts='a': expected a list of texts"),
    ],
)
def test_invalid_texts_to_continue(texts, options, message):
    model = writer("\nabc", {})
    with pytest.raises(ValueError, match=message):
        zoo.continue_texts(model, texts, **options)


def test_only_models_of_texts_continue_texts():
    with pytest.raises(ValueError, match="model: expected a model that reads one text"):
        zoo.continue_texts(zoo.next_step(zoo.Classes(4), cell="gru", units=3), ["a"])
