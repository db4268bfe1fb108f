"""The models of the zoo check their data, and then compute what Keras's models compute."""

import keras
import numpy as np
import pytest

from kerasrnn import zoo
from kerasrnn.zoo.model import of

X = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
Y = np.array([0, 1, 1, 0])
IDS = np.array([[3, 1, 0], [2, 2, 5]])


def as_numpy(tensors):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


def build():
    """A model without recurrence."""
    keras.utils.set_random_seed(0)
    model = zoo.one_to_one(zoo.Vectors(3), zoo.Classes(2), (4,), "tanh", dropout=0.5)
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return model


@pytest.fixture(scope="module")
def reader():
    """A compiled model, which no test trains."""
    model = zoo.many_to_one(zoo.Vectors(3), zoo.Classes(2), "gru", units=2)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return model


@pytest.fixture(scope="module")
def speller():
    return zoo.next_step(zoo.Classes(6), units=3)


class Frame:
    """Converts to an array of objects, like a pandas DataFrame of columns of different types."""

    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, object if dtype is None else dtype)


def broken(value, index=(2, 3, 1), dtype=None):
    changed = X.astype(dtype or X.dtype)
    changed[index] = value
    return changed


# The results equal those of a `keras.Model`.


@pytest.mark.gradients
def test_training_equals_that_of_a_keras_model():
    """The same losses and weights, bit for bit."""
    found = []
    for plain in (False, True):
        model = build()
        if plain:
            model = keras.Model(model.input, model.output)
            model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
        keras.utils.set_random_seed(1)
        weights = np.array([1.0, 2.0, 0.0, 1.0])
        history = model.fit(
            X[:, 0], Y, 2, 2, 0, sample_weight=weights, validation_data=(X[:2, 1], Y[:2])
        )
        losses = model.evaluate(X[:, 0], Y, verbose=0), model.train_on_batch(X[:, 0], Y)
        found.append((history.history, losses, model.get_weights()))
    (history, losses, weights), (other, of_other, weights_of_other) = found
    assert (history, losses) == (other, of_other)
    assert len(history["val_loss"]) == 2
    for a, b in zip(weights, weights_of_other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "given",
    [
        X.astype("float64"),
        X.tolist(),
        tuple(X),
        [X],
        {"sequence": X, "another": None},
        X.astype(object),
        np.ma.masked_invalid(X),
        Frame(X.tolist()),
        [keras.ops.convert_to_tensor(row) for row in X],
        keras.ops.convert_to_tensor(X),
    ],
    ids=["float64", "list", "tuple", "listed", "dict", "object", "mask", "frame", "rows", "tensor"],
)
def test_numbers_of_every_kind(reader, given):
    expected = keras.Model(reader.input, reader.output).predict_on_batch(X)
    np.testing.assert_allclose(as_numpy(reader(given)), expected, atol=1e-6)
    np.testing.assert_allclose(reader.predict(given, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(reader.predict_on_batch(given), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16"])
def test_types_of_numbers(reader, dtype):
    import ml_dtypes

    x = np.abs(X).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    expected = as_numpy(reader(x.astype("float32")))
    np.testing.assert_allclose(as_numpy(reader(x)), expected, atol=1e-6)
    np.testing.assert_allclose(reader.predict(x, verbose=0), expected, atol=1e-6)


def test_a_last_axis_of_one():
    """A series of numbers has one feature; a column of ids is a batch of single ids."""
    series = zoo.many_to_one(zoo.Vectors(1), zoo.Classes(2), units=2)
    np.testing.assert_array_equal(
        as_numpy(series(X[..., 0].tolist())), as_numpy(series(X[..., :1]))
    )
    labels = zoo.one_to_one(zoo.Labels(6), zoo.Classes(2), hidden=())
    np.testing.assert_array_equal(
        as_numpy(labels(IDS[:, :1].tolist())), as_numpy(labels(IDS[:, 0]))
    )


@pytest.mark.parametrize(
    "given",
    [IDS.tolist(), IDS.astype("float64"), IDS.astype("uint8"), IDS.astype(object), IDS[..., None]],
    ids=["lists", "floats", "uint8", "objects", "column"],
)
def test_ids_of_every_kind(speller, given):
    expected = as_numpy(speller(keras.ops.convert_to_tensor(IDS)))
    np.testing.assert_array_equal(as_numpy(speller(given)), expected)
    np.testing.assert_allclose(speller.predict(given, verbose=0), expected, atol=1e-6)


# Invalid data raise an error before Keras reads them.

BAD = {
    "none": (None, "=None: expected an array, or rows in a list"),
    "string": ("x", "='x': expected an array"),
    "set": ({1.0}, "={1.0}: expected an array"),
    "number": (np.array(3.0), r"=array\(3.\): expected an array"),
    "rows": (X[:0], "=array.*: expected at least one row"),
    "steps": (X[:, :0], r" has the shape \(4, 0, 3\): expected at least one step"),
    "one": (X[0], r" has the shape \(5, 3\): expected \(batch, time, 3\).*x\[np.newaxis\]"),
    "width": (X[..., :2], r" has the shape \(4, 5, 2\): expected \(batch, time, 3\)\.$"),
    "name": ({"x": X}, " has no 'sequence': expected it, or an array"),
    "nan": (
        broken(np.nan),
        r"\[2, 3, 1\]=nan: expected a number that is finite in float32. It is in row 2, step 3, "
        r"column 1. np.isfinite\(x\).all\(axis=\(1, 2\)\)",
    ),
    "all": (X * np.nan, r"\[0, 0, 0\]=nan: .*, the first of 60 such numbers"),
    "inf": (broken(-np.inf), r"\[2, 3, 1\]=-inf: expected"),
    "wide": (broken(1e300, dtype="float64"), r"\[2, 3, 1\]=1e\+300: expected a number that is fin"),
    "missing": (broken(None, dtype=object), r"\[2, 3, 1\]=None: expected a number\.$"),
    "huge": (broken(10**400, dtype=object), r"\[2, 3, 1\]=10*\.\.\.: expected a number\.$"),
    "text": (broken("1", dtype=object), r"\[2, 3, 1\]='1': expected a number. np.asarray\(x\).ast"),
    "texts": (X.astype(str), r"\[0, 0, 0\]='0.12.*': expected a number. np.asarray\(x\).astype\(f"),
    "words": (np.full(X.shape, "one"), r"\[0, 0, 0\]='one': expected a number. keras.layers.Text"),
    "complex": (X.astype(complex), " has the dtype complex128: expected real numbers"),
    "dates": (X.astype("datetime64[s]"), r" has the dtype datetime64\[s\]: expected real"),
    "ragged": ([X[0], X[1, :2]], " has rows of different lengths: .*keras.utils.pad_sequences"),
    "arrays": (np.array([X[0], X[1, :2]], object), " has rows of different lengths: "),
    "masked": (np.ma.masked_greater(X, 1.0), r" has masked entries: .* x.filled\(number\)"),
    "iterator": (iter(X), "=<.*iterator.*: expected an array"),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_inputs(reader, kind):
    given, message = BAD[kind]
    with pytest.raises(ValueError, match=f"^inputs{message}"):
        reader(given)
    for use in (
        lambda x: reader.predict(x, verbose=0),
        reader.predict_on_batch,
        lambda x: reader.fit(x, Y, verbose=0),
        lambda x: reader.evaluate(x, Y, verbose=0),
        lambda x: reader.train_on_batch(x, Y),
        lambda x: reader.test_on_batch(x, Y),
    ):
        with pytest.raises(ValueError, match=f"^x{message}"):
            use(given)
    with pytest.raises(ValueError, match=rf"^validation_data\[0\]{message}"):
        reader.fit(X, Y, verbose=0, validation_data=(given, Y))


def test_values_of_tensors_are_checked_except_in_a_call(reader):
    with pytest.raises(ValueError, match=r"^x\[2, 3, 1\]=nan: "):
        reader.predict(keras.ops.convert_to_tensor(broken(np.nan)), verbose=0)
    assert np.isnan(as_numpy(reader(keras.ops.convert_to_tensor(broken(np.nan))))).any()


@pytest.mark.tensorflow
def test_ragged_tensors(reader):
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_tensor(X)
    for use, name in ((reader, "inputs"), (reader.predict, "x")):
        with pytest.raises(ValueError, match=rf"^{name} is a RaggedTensor: .* x.to_tensor\(\)"):
            use(ragged)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 6]], r"\[0, 1\]=6: expected an integer from 0 to 5"),
        ([[1, -1]], r"\[0, 1\]=-1: expected an integer from 0 to 5"),
        ([[1, 2**40]], r"\[0, 1\]=1099511627776: expected an integer from 0 to 5"),
        (np.array([[1, 2**63]], "uint64"), r"\[0, 1\]=9223372036854775808: expected an integer"),
        ([[1.5, 2]], r"\[0, 0\]=1.5: expected an integer from 0 to 5"),
        ([[1, np.nan]], r"\[0, 1\]=nan: expected an integer from 0 to 5"),
        ([["a"]], r"\[0, 0\]='a': expected a number. keras.layers.TextVectorization"),
        ([[1], [2, 3]], " has rows of different lengths"),
    ],
    ids=str,
)
def test_invalid_ids(speller, given, message):
    with pytest.raises(ValueError, match=f"^inputs{message}"):
        speller(given)
    with pytest.raises(ValueError, match=f"^x{message}"):
        speller.predict(given, verbose=0)


def test_ids_are_checked_against_every_embedding():
    """Of tokens, labels, decoders, and the prompts and prefixes of generators."""
    reads = zoo.encoder_decoder(zoo.Tokens(5, 2), zoo.Classes(7), units=2)
    draws = zoo.one_to_many(zoo.Labels(4), zoo.Classes(7), units=2)
    writes = zoo.generator(reads, max_length=2, start=1, end=2, prompt=True, prefix=True)
    one = [[1], [1]]
    for model, wrong, (name, last) in (
        (reads, [[[5], [1]], one], ("source", 4)),
        (reads, [one, [[1], [7]]], ("previous", 6)),
        (draws, [[1, 4], one], ("source", 3)),
        (writes, [[[5], [1]], one, one], ("source", 4)),
        (writes, [one, [[7], [1]], one], ("prompt", 6)),
        (writes, [one, one, [[7], [1]]], ("prefix", 6)),
    ):
        with pytest.raises(ValueError, match=rf"^x\['{name}'\].*an integer from 0 to {last}\."):
            model.predict(wrong, verbose=0)


def test_several_inputs():
    model = zoo.one_to_many(zoo.Vectors(3), zoo.Values(2), units=2)
    source, previous = X[:, 0], X[..., :2]
    expected = as_numpy(model([source, previous]))
    named = {"previous": previous.tolist(), "source": source, "more": "unread"}
    np.testing.assert_array_equal(as_numpy(model(named)), expected)
    np.testing.assert_allclose(model.predict((source, previous), verbose=0), expected, atol=1e-6)
    for given, message in (
        (source, "x=array.*: expected a list or a dict of 2 arrays: source, previous"),
        ([source], "x has 1 entries: expected 2, for source, previous"),
        ({"source": source}, "x has no 'previous': expected a dict of source, previous"),
        ([source, None], r"x\['previous'\]=None: expected an array"),
        ([source, previous[1:]], r"x\['previous'\] has 3 rows, and x\['source'\] 4: expected"),
        ([source, previous * np.inf], r"x\['previous'\]\[0, 0, 0\]=.*inf: expected a number"),
    ):
        with pytest.raises(ValueError, match=f"(?s)^{message}"):
            model.predict(given, verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "=None: expected targets"),
        (["a", "b", "b", "a"], r"\[0\]='a': expected a number. names, ids = np.unique\("),
        (np.array(["a", "b", "b", "a"], object), r"\[0\]='a': expected a number. names, ids ="),
        ([0, 1, np.nan, 0], r"\[2\]=nan: expected a number that is finite"),
        ([0, 1, 1, 2], r"\[3\]=2: expected an integer from 0 to 1"),
        ([0, 1, 1, -1], r"\[3\]=-1: expected an integer from 0 to 1"),
        ([0, 1, 1], " has 3 rows, and .* 4: expected equal numbers"),
        ([[0], [1, 1], [0], [0]], " has rows of different lengths"),
        ({"other": Y}, " has no 'probabilities'"),
        (np.ones((4, 0)), r" has the shape \(4, 0\): expected at least one step"),
        (np.eye(2)[Y], r" has the shape \(4, 2\): expected \(batch,\)\. y.argmax\(axis=-1\)"),
    ],
    ids=str,
)
def test_invalid_targets(reader, given, message):
    for use in (
        lambda y: reader.fit(X, y, verbose=0),
        lambda y: reader.evaluate(X, y, verbose=0),
        lambda y: reader.train_on_batch(X, y),
        lambda y: reader.test_on_batch(X, y),
    ):
        with pytest.raises(ValueError, match=f"^y{message}"):
            use(given)
    with pytest.raises(ValueError, match=rf"^validation_data\[1\]{message}"):
        reader.fit(X, Y, verbose=0, validation_data=(X, given))


def test_targets_of_every_kind(reader):
    expected = reader.evaluate(X, Y, verbose=0)
    tensor = keras.ops.convert_to_tensor(Y)
    kinds = (Y.tolist(), [Y], {"probabilities": Y}, Y.astype(float), Y > 0, tensor)
    for y in (*kinds, Y[:, None], keras.ops.expand_dims(tensor, -1)):
        assert reader.evaluate(X, y, verbose=0) == pytest.approx(expected, abs=1e-6)


def test_other_arguments(reader):
    for options, message in (
        ({"sample_weight": [1, 1, np.nan, 1]}, r"sample_weight\[2\]=nan: expected a number"),
        (
            {"sample_weight": [1, 1, 1]},
            "sample_weight has 3 rows, and y 4|sample_weight has 3 rows",
        ),
        (
            {"sample_weight": np.ones((4, 2))},
            r"sample_weight has the shape \(4, 2\): expected \(batch,\) or \(batch, 1\)",
        ),
        (
            {"sample_weight": np.ones((4, 4))},
            r"sample_weight has the shape \(4, 4\): expected \(batch,\) or \(batch, 1\)",
        ),
        ({"class_weight": "balanced"}, "class_weight='balanced': expected a dict of numbers by cl"),
        (
            {"class_weight": [1, 2]},
            r"class_weight=\[1, 2\]: expected a dict of numbers by class id",
        ),
        ({"class_weight": {"0": 1}}, "a key of class_weight='0': expected an integer from 0 to 1"),
        ({"class_weight": {2: 1}}, "a key of class_weight=2: expected an integer from 0 to 1"),
        ({"class_weight": {0: np.nan}}, r"class_weight\[0\]=nan: expected a finite number"),
        ({"class_weight": {0: 1}, "sample_weight": np.ones(4)}, "class_weight=.* None with sample"),
        ({"validation_split": 2}, r"validation_split=2: expected a number in \[0, 1\)"),
        ({"epochs": 0}, "epochs=0: expected a positive integer"),
        ({"batch_size": 0}, "batch_size=0: expected a positive integer"),
        ({"batch_size": 1.5}, "batch_size=1.5: expected a positive integer"),
        ({"validation_data": X}, r"validation_data=array.*: expected \(x, y\)"),
        ({"validation_data": (X, Y), "validation_batch_size": 0}, "validation_batch_size=0: exp"),
    ):
        with pytest.raises(ValueError, match=f"(?s)^({message})"):
            reader.fit(X, Y, verbose=0, **options)


@pytest.fixture(scope="module")
def tagger():
    model = zoo.many_to_many(zoo.Vectors(3), zoo.Classes(2), "gru", units=2)
    model.compile(keras.optimizers.SGD(0.5), "SparseCategoricalCrossentropy", jit_compile=False)
    return model


@pytest.mark.parametrize("steps", [4, 5], ids=["square", "oblong"])
def test_the_weight_of_a_row_applies_to_all_its_steps(tagger, steps):
    x, weights = X[:, :steps].copy(), np.array([1.0, 0.0, 3.0, 0.5])
    x[0, 2:] = 0.0  # padding
    y = np.arange(4 * steps).reshape(4, steps) % 3 % 2
    p = np.take_along_axis(tagger.predict(x, verbose=0), y[..., None], -1)[..., 0]
    used = (x != 0).any(axis=-1)
    expected = -(np.log(p) * weights[:, None])[used].sum() / used.sum()
    tensor = keras.ops.convert_to_tensor(weights, "float32")
    for given in (weights, weights[:, None], np.outer(weights, np.ones(steps)), tensor):
        assert tagger.evaluate(x, y, verbose=0, sample_weight=given) == pytest.approx(expected)
        assert tagger.test_on_batch(x, y[..., None], given) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"^sample_weight has the shape .*or \(batch, time\)"):
        tagger.evaluate(x, y, verbose=0, sample_weight=np.ones((4, 3)))


@pytest.mark.gradients
def test_the_weight_of_a_row_trains_all_its_steps(tagger):
    y, weights, start = np.tile([0, 1, 1, 0], (4, 1)), np.array([1.0, 0.0, 3.0, 0.5]), None
    trained = []
    for given in (weights, np.tile(weights[:, None], 4)):
        start = start or tagger.get_weights()
        tagger.set_weights(start)
        tagger.fit(X[:, :4], y, batch_size=4, verbose=0, shuffle=False, sample_weight=given)
        trained.append(tagger.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert not np.allclose(one, start[-1])
    tagger.set_weights(start)


def test_targets_have_the_steps_of_the_output(tagger):
    """Keras would broadcast a single step."""
    x = keras.Input((None, 3))
    model = zoo.Model(x, keras.layers.Conv1D(2, 2, strides=2)(x))
    model.compile("sgd", "mse", jit_compile=False)
    y = X[:, :2, :2]
    expected = np.mean((model.predict(X, verbose=0) - y) ** 2)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(expected)
    for wrong in (X[:, :1, :2], X[:, :3, :2]):
        message = rf"^y has {wrong.shape[1]} steps?, and the output 2: expected equal numbers"
        with pytest.raises(ValueError, match=message):
            model.test_on_batch(X, wrong)
    with pytest.raises(ValueError, match=r"^y has 1 step, and the output 5: expected"):
        tagger.fit(X, np.zeros((4, 1)), verbose=0)
    model = zoo.encoder_decoder(zoo.Vectors(3), zoo.Values(3), cell="gru", units=2)
    model.compile("sgd", jit_compile=False)
    for steps in (1, 3):
        previous = X[:, :steps]
        mse = np.mean((model.predict([X, previous], verbose=0) - previous) ** 2)
        assert model.evaluate([X, previous], previous, verbose=0) == pytest.approx(mse)
        with pytest.raises(ValueError, match=f"^y has 5 steps, and the output {steps}: expected"):
            model.train_on_batch([X, previous], X)  # targets with the steps of the source


def test_a_prompt_may_be_empty(speller):
    writes = zoo.generator(speller, max_length=3, start=1, end=2, prompt=True)
    assert writes.predict(np.zeros((2, 0)), verbose=0).shape == (2, 3)


def test_classes_of_steps_have_no_class_weight(tagger):
    for use in (tagger.fit, tagger.train_on_batch):
        with pytest.raises(ValueError, match=r"^class_weight=\{0: 2.0\}: .* sample_weight"):
            use(X, np.zeros((4, 5)), class_weight={0: 2.0})


@pytest.mark.gradients
def test_a_class_without_a_weight_has_the_weight_one():
    trained = []
    for weights in ({"class_weight": {1.0: 3}}, {"sample_weight": 1 + 2 * Y}):
        model = build()
        keras.utils.set_random_seed(1)
        model.fit(X[:, 0], Y, batch_size=4, verbose=0, shuffle=False, **weights)
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.gradients
@pytest.mark.parametrize("outputs", [zoo.MultiLabel(3), zoo.Values(3), zoo.Values(1)], ids=repr)
def test_class_weights_need_one_class_per_row(outputs):
    """Keras would weigh [1, 1, 0] as class 0, and 0.6 as class 1."""
    x, y = X[:, 0], np.eye(3)[[0, 2, 1, 2]] if outputs.count == 3 else np.array([0, 2, 1, 2])
    weights = {0: 2.0, 1: 1.0, 2: 5.0}
    model = zoo.one_to_one(zoo.Vectors(3), outputs, hidden=())
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    found = model.fit(x, y, class_weight=weights, verbose=0).history["loss"][0]
    expected = model.evaluate(x, y, sample_weight=[2.0, 5.0, 1.0, 5.0], verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)
    wrong = y.astype("float32")
    wrong[1] = [1, 1, 0] if outputs.count == 3 else 0.6
    for use in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"^y\[1\]=.*: expected one class, with class_weight"):
            use(x, wrong, class_weight=weights)


def test_targets_of_labels_are_between_0_and_1():
    model = zoo.one_to_one(zoo.Vectors(3), zoo.MultiLabel(2), hidden=())
    model.compile("sgd", jit_compile=False)
    soft = np.array([[0, 1], [0.25, 0.5], [1, 0], [0, 0.75]])
    p = model.predict(X[:, 0], verbose=0).astype("float64")
    expected = -np.mean(soft * np.log(p) + (1 - soft) * np.log(1 - p))
    assert model.evaluate(X[:, 0], soft, verbose=0) == pytest.approx(expected, rel=1e-5)
    for wrong in (-1, 2):
        soft[2, 1] = wrong
        with pytest.raises(ValueError, match=rf"^y\[2, 1\]={wrong}.0: expected a number from 0 to"):
            model.evaluate(X[:, 0], soft, verbose=0)
    tagger = zoo.next_step(zoo.MultiLabel(2), "gru", units=2, padding=-1.0)
    tagger.compile("sgd", jit_compile=False)
    frames = np.array([[[1, 0], [0, 1], [-1, -1]]])  # the last one is padding
    q = tagger.predict(frames, verbose=0)[0, :2].astype("float64")
    y = np.array([[[0, 1], [1, 1], [-1, -1]]])
    expected = -np.mean(np.log(np.where(y[0, :2] == 1, q, 1 - q)))
    assert tagger.evaluate(frames, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"^y\[0, 1, 0\]=-1: expected a number from 0 to 1"):
        tagger.evaluate(frames, np.array([[[0, 1], [-1, 1], [-1, -1]]]), verbose=0)


@pytest.mark.parametrize(
    ("outputs", "loss", "y", "message"),
    [
        (zoo.Values(1), "mse", np.ones((4, 3)), r" has the shape \(4, 3\): expected \(batch, 1\)"),
        (zoo.Values(3), "mse", np.ones((4, 1)), r" has the shape \(4, 1\): expected \(batch, 3\)"),
        (zoo.Classes(3), keras.losses.Huber(), Y, r" has the shape \(4,\): expected \(batch, 3\)"),
        (zoo.Classes(3), "categorical_crossentropy", Y, ".* loss='sparse_categorical_crossentropy"),
        (zoo.Classes(3), "SparseCategoricalCrossentropy", Y + 2, r"\[1\]=3: .* from 0 to 2"),
        (
            zoo.Classes(3),
            keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
            Y * 4 - 1,
            r"\[1\]=3: .* from 0 to 2",
        ),
    ],
    ids=["one", "three", "ids", "one-hot", "name", "ignored"],
)
def test_targets_have_the_shape_that_the_loss_takes(outputs, loss, y, message):
    model = zoo.one_to_one(zoo.Vectors(3), outputs, hidden=())
    model.compile("sgd", loss, jit_compile=False)
    for use in (model.fit, model.evaluate, model.test_on_batch):
        with pytest.raises(ValueError, match=f"^y{message}"):
            use(X[:, 0], y)


def test_targets_of_one_value():
    model = zoo.one_to_one(zoo.Vectors(3), zoo.Values(1), hidden=())
    model.compile("sgd", "mse", jit_compile=False)
    y = np.arange(4.0)
    expected = np.mean((model.predict(X[:, 0], verbose=0)[:, 0] - y) ** 2)
    for given in (y, y[:, None], keras.ops.convert_to_tensor(y, "float32")):
        assert model.test_on_batch(X[:, 0], given) == pytest.approx(expected)


def test_a_custom_loss_takes_targets_of_any_shape():
    model = zoo.one_to_one(zoo.Vectors(3), zoo.Values(3), hidden=())
    model.compile("sgd", lambda y, p: keras.ops.square(p - y), jit_compile=False)
    expected = np.mean((model.predict(X[:, 0], verbose=0) - Y[:, None]) ** 2)
    assert model.test_on_batch(X[:, 0], Y[:, None]) == pytest.approx(expected)


@pytest.mark.parametrize("structure", [list, dict], ids=["list", "dict"])
def test_several_outputs(structure):
    x = keras.Input((3,))
    first = keras.layers.Dense(1, name="first")(x)
    second = keras.layers.Dense(2, name="second")(x)
    named = structure is dict
    model = zoo.Model(x, {"first": first, "second": second} if named else [first, second])
    model.compile("sgd", {"first": "mse", "second": "mae"}, jit_compile=False)
    y, z, weights = np.arange(4.0), X[:, 1, :2], np.array([1.0, 0.0, 2.0, 1.0])
    p, q = keras.tree.flatten(model.predict(X[:, 0], verbose=0))
    losses = (p[:, 0] - y) ** 2, np.abs(q - z).mean(axis=-1)
    for given, expected in (
        (None, losses[0] + losses[1]),
        (weights, (losses[0] + losses[1]) * weights),
        ({"first": weights, "second": None}, losses[0] * weights + losses[1]),
    ):
        found = model.evaluate(X[:, 0], {"first": y, "second": z}, verbose=0, sample_weight=given)
        assert found[0] == pytest.approx(expected.mean())
    for wrong, message in (
        ({"first": y, "third": z}, "y has no 'second': expected a dict of first, second"),
        ({"first": y, "second": None}, r"y\['second'\]=None: expected targets"),
        ({"first": z, "second": z}, r"y\['first'\] has the shape \(4, 2\): expected \(batch, 1\)"),
        (z, "y=array.*: expected a .*dict of 2 arrays: first, second"),
    ):
        with pytest.raises(ValueError, match=f"(?s)^{message}"):
            model.fit(X[:, 0], wrong, verbose=0)
    with pytest.raises(ValueError, match=r"^class_weight=.*: expected None for several outputs"):
        model.fit(X[:, 0], {"first": y, "second": z}, class_weight={0: 1.0})


def test_ids_are_checked_against_the_smallest_embedding():
    """Also in a nested model."""
    ids, more = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32", name="ids")
    inner = keras.Model(more, keras.layers.Embedding(3, 2)(more))
    outputs = [keras.layers.Embedding(count, 2)(ids) for count in (4, 9)]
    chain = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(2, 2)])
    for model, last in (
        (zoo.Model(ids, outputs), 3),
        (zoo.Model(ids, [*outputs, inner(ids)]), 2),
        (zoo.Model(ids, [*outputs, chain(ids)]), 1),
    ):
        model.predict([[last]], verbose=0)
        with pytest.raises(ValueError, match=rf"={last + 1}: expected an integer from 0 to {last}"):
            model.predict([[last + 1]], verbose=0)


def test_a_model_whose_batches_have_one_size():
    """Keras would return four rows for three."""
    model = zoo.next_step(zoo.Classes(6), units=3, stateful=True, batch_size=2)
    assert model.predict(np.tile(IDS, (2, 1)), verbose=0).shape == (4, 3, 6)
    with pytest.raises(ValueError, match=r"^x has 3 rows: expected a multiple of 2, the batch"):
        model.predict([[1], [2], [3]], verbose=0)
    with pytest.raises(ValueError, match=r"^inputs has 3 rows: expected 2, the batch size"):
        model([[1], [2], [3]])
    with pytest.raises(ValueError, match=r"^batch_size=4: expected 2, the batch size"):
        model.predict(IDS, batch_size=4, verbose=0)


# Generators and datasets are not checked; the loss is.


@pytest.mark.gradients
def test_a_loss_that_is_not_finite_raises_a_warning():
    model, x = build(), X[:, 0]
    model.fit(((x, Y) for _ in range(2)), steps_per_epoch=2, shuffle=False, verbose=0)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, n):
            return x * np.nan, Y

    with pytest.warns(UserWarning, match=r"^Epoch 2: val_loss=nan\. .* a lower learning") as caught:
        model.fit(x, Y, verbose=0, epochs=4, validation_data=Batches(), validation_freq=2)
    history = keras.callbacks.History()
    with pytest.warns(UserWarning, match=r"^Epoch 1: loss=nan\. ") as more:
        model.fit(Batches(), epochs=2, verbose=0, callbacks=history)
    assert np.isnan(history.history["loss"]).all()
    for found in (caught, more):
        assert sum("Epoch" in str(warning.message) for warning in found) == 1


@pytest.mark.tensorflow
def test_datasets(reader):
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(X).batch(3)
    expected = reader.predict_on_batch(X)
    np.testing.assert_allclose(reader.predict(batches, verbose=0), expected, atol=1e-6)


def test_loaders_of_torch():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X[:, 0]), torch.tensor(Y))
    model = build()
    found = model.evaluate(torch.utils.data.DataLoader(data, 4), verbose=0)
    assert found == pytest.approx(model.evaluate(X[:, 0], Y, verbose=0), abs=1e-6)


# The class is that of a functional model.


def test_models_are_saved_cloned_and_nested(reader, tmp_path):
    expected = as_numpy(reader(X))
    reader.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(reader)
    clone.set_weights(reader.get_weights())
    for model in (loaded, clone):
        assert type(model) is zoo.Model
        np.testing.assert_array_equal(as_numpy(model(X)), expected)
    outer = keras.Input((None, 3))
    whole = keras.Model(outer, reader(outer))
    np.testing.assert_array_equal(as_numpy(whole(X)), expected)
    plain = keras.Model(reader.input, reader.output)
    assert type(of(plain)) is zoo.Model
    assert of(plain).layers == plain.layers
    for other in (keras.Sequential([keras.Input((2,))]), reader):
        assert of(other) is other
