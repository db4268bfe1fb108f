"""Models that copy: ids of texts, translations with the words of the source, exports; ensembles."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import Beam, LanguageModelFusion, NGramLanguageModel
from tests.zoo.models import assert_exports_to_onnx, assert_saves

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:.*translations were truncated"),
]

TEXTS = ["I met Zork, Zilch and ZORK", "you", "Ümit met Bo (i.e. B-o)", "a b c d e f g h"]


def source():
    return keras.layers.TextVectorization(vocabulary=["i", "met", "and", "you"])


def target():
    return keras.layers.TextVectorization(vocabulary=["i", "saw", "bo"])


def new_model(seed=0, **options):
    """With larger weights, so that translations differ."""
    keras.utils.set_random_seed(seed)
    options = {"attention": "bahdanau", "copy": True, "copied_symbols": 4, **options}
    model = zoo.encoder_decoder(zoo.Tokens(6, 8), zoo.Classes(7), cell="gru", units=8, **options)
    for weight in model.weights:
        weight.assign(2 * weight.value)
    return model


@pytest.fixture(scope="module")
def translator():
    return zoo.Translator(new_model(), source(), target(), max_length=6)


def test_ids_of_texts():
    """Known words have the ids of the target; unknown ones those after the start, 6, in the form
    of the target, up to the number of copied symbols; nothing is copied of punctuation."""
    said = ["I saw Zilch zork", "?? bo", "Ümit saw ie bo", "h g i"]
    ids, previous, following = zoo.copied_ids(source(), target(), TEXTS, said, copied_symbols=4)
    assert ids.tolist() == [
        [2, 7, 8, 9, 10, 8, 0, 0],
        [7, 0, 0, 0, 0, 0, 0, 0],
        [7, 8, 4, 9, 4, 0, 0, 0],
        [7, 8, 9, 10, 0, 0, 0, 0],
    ]
    assert following.tolist() == [
        [2, 3, 9, 8, 5],
        [4, 5, 0, 0, 0],
        [7, 3, 9, 4, 5],
        [1, 1, 2, 5, 0],
    ]
    assert previous.tolist() == [[6, 2, 3, 9, 8], [6, 4, 0, 0, 0], [6, 7, 3, 9, 4], [6, 1, 1, 2, 0]]
    assert zoo.copied_ids(source(), target(), TEXTS, copied_symbols=4).tolist() == ids.tolist()


@pytest.mark.traced
@pytest.mark.parametrize("beam", [1, 3])
def test_translations_have_the_words_of_the_source(translator, beam):
    """As the source writes them; scores are those of teacher forcing."""
    found = translator.explain(TEXTS, beam=beam, length_penalty=0.0)
    ids = zoo.copied_ids(source(), target(), TEXTS, copied_symbols=4)
    numbers = np.asarray(source()(np.array(TEXTS)))
    written = [["met", "Zork,", "Zilch", "and"], ["you"], ["Ümit", "met", "(i.e."], list("abcd")]
    copied = 0
    for n, said in enumerate(found):
        known = {symbol: k for k, symbol in enumerate(["", "[UNK]", "i", "saw", "bo"])}
        known |= {word: 7 + k for k, word in enumerate(written[n])}
        path = [known[symbol] for symbol in said.symbols] + ([] if said.truncated else [5])
        copied += sum(k >= 7 for k in path)
        fed = np.array([[6, *path[:-1]]])
        p = np.array(translator.model([numbers[n : n + 1], ids[n : n + 1], fed]))[0]
        total = np.log(p[range(len(path)), path]).sum()
        np.testing.assert_allclose(said.score, total, rtol=1e-4)
        if beam == 1:
            p[:, [0, 1, 6]] = 0
            assert p.argmax(axis=-1).tolist() == path
        assert said.text == " ".join(said.symbols)
    assert copied


@pytest.mark.traced
def test_required_and_forbidden_phrases(translator):
    """Of the vocabulary and of the source."""
    required = [["saw bo", "Zilch"], [], ["Ümit"], ["i"]]
    found = translator.translate(TEXTS, 6, required=required, forbidden=["bo bo", "i i"])
    assert "saw bo" in found[0]
    assert "Zilch" in found[0]
    assert "Ümit" in found[2]
    assert "i" in found[3].split()
    assert not any(phrase in text for phrase in ("bo bo", "i i") for text in found)
    with pytest.warns(UserWarning, match="all required phrases was found for texts 3"):
        assert not translator.translate(TEXTS, 6, required=required, forbidden=["i"])[3]


def test_saved_and_exported(translator, tmp_path):
    """The model of all steps, a generator, and the encoder and the step by themselves."""
    model = translator.model
    ids = zoo.copied_ids(source(), target(), TEXTS, copied_symbols=4)
    numbers = np.asarray(source()(np.array(TEXTS))).astype("int32")
    batch = [numbers, ids, np.full((4, 3), 6, "int32")]
    assert model.output_shape == (None, None, 11)
    assert_saves(model, batch, tmp_path)
    translator.save(tmp_path / "translator.keras")
    loaded = keras.saving.load_model(tmp_path / "translator.keras")
    assert loaded.translate(TEXTS, 2) == translator.translate(TEXTS, 2)
    writer = translator.writer(beam=2)
    rows = np.asarray(writer([numbers, ids]))
    assert ((rows >= 7) & (rows < 11)).any()
    encoder, step = zoo.encoder_and_step(model)
    found = encoder([numbers, ids])
    y, *_ = step([np.full(4, 6), *found])
    np.testing.assert_allclose(y, model(batch)[:, 0], atol=1e-6)


@pytest.mark.traced
def test_onnx(translator, tmp_path):
    numbers, ids = np.array([[2, 1, 1, 3]], "int32"), np.array([[2, 8, 7, 8]], "int32")
    check = [[numbers, ids, np.array([[6, 2]], "int32")]]
    names = (["source", "source_ids", "previous"], ["probabilities"])
    assert_exports_to_onnx(translator.model, check, tmp_path, names)


@pytest.mark.traced
@pytest.mark.parametrize("average", ["probabilities", "log_probabilities"])
def test_ensembles(average, tmp_path):
    """Greedy decoding and a beam by the mean of three models, of which one has no attention."""
    options = ({}, {"attention": None, "mode": "both"}, {"attention": "luong"})
    models = [new_model(n, copy=False, copied_symbols=32, **each) for n, each in enumerate(options)]
    numbers = np.array([[2, 1, 3, 4], [5, 2, 0, 0], [3, 3, 4, 0]], "int32")
    greedy = zoo.generator(models, None, 4, 6, 5, average=average, return_log_probabilities=True)
    write = zoo.generator(
        models, Beam(3), 4, 6, 5, average=average, return_scores=True, return_attention=True
    )

    def log_p(fed):
        p = np.stack([np.asarray(model([numbers, fed]), "float64") for model in models])
        mean = p.mean(axis=0) if average == "probabilities" else np.exp(np.log(p).mean(axis=0))
        return np.log(mean / mean.sum(axis=-1, keepdims=True))

    symbols, found = map(np.asarray, greedy(numbers))
    expected = log_p(np.insert(symbols[:, :-1], 0, 6, axis=1))
    best = expected.copy()
    best[..., [0, 6]] = -np.inf  # padding and the start
    for n, length in enumerate((symbols > 0).sum(axis=1)):
        assert best[n, :length].argmax(axis=-1).tolist() == symbols[n, :length].tolist()
        taken = expected[n, range(length), symbols[n, :length]]
        np.testing.assert_allclose(found[n, :length], taken, rtol=1e-4)
    symbols, scores, attention = map(np.asarray, write(numbers))
    expected = log_p(np.insert(symbols[:, :-1], 0, 6, axis=1))
    for n, length in enumerate((symbols > 0).sum(axis=1)):
        total = expected[n, range(length), symbols[n, :length]].sum()
        np.testing.assert_allclose(scores[n], total, rtol=1e-4)
        np.testing.assert_allclose(attention[n, :length].sum(axis=-1), 1, atol=1e-5)
    assert not attention[1, :, 2:].any()
    write.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(numbers)[0], symbols)


@pytest.mark.traced
def test_a_translator_of_several_models_with_a_language_model(tmp_path):
    models = [new_model(n) for n in (3, 4)]
    translator = zoo.Translator(models, source(), target(), max_length=5)
    plain = translator.explain(TEXTS, 3, 0.0)
    ids = zoo.copied_ids(source(), target(), TEXTS, copied_symbols=4)
    numbers = np.asarray(source()(np.array(TEXTS)))
    words = kerasrnn.NGrams.of_sequences([[3, 4], [3, 4, 2]] * 20, order=2)
    fusion = LanguageModelFusion(NGramLanguageModel.from_ngrams(words, classes=5), 30.0)
    fused = translator.explain(TEXTS, 3, 0.0, processors=[fusion])
    assert [said.symbols[:2] for said in fused] == [["saw", "bo"]] * 4
    for n, said in enumerate(plain):
        if said.truncated or any(symbol not in ("i", "saw", "bo") for symbol in said.symbols):
            continue
        path = [["i", "saw", "bo"].index(symbol) + 2 for symbol in said.symbols] + [5]
        fed = np.array([[6, *path[:-1]]])
        p = np.mean([np.asarray(m([numbers[n : n + 1], ids[n : n + 1], fed])) for m in models], 0)
        total = np.log(p[0, range(len(path)), path]).sum()
        np.testing.assert_allclose(said.score, total, rtol=1e-4)
    translator.save(tmp_path / "translator.keras")
    loaded = keras.saving.load_model(tmp_path / "translator.keras")
    assert [said.text for said in loaded.explain(TEXTS, 3, 0.0)] == [said.text for said in plain]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: new_model(attention=None), "copy=True: symbols are copied where"),
        (lambda t: new_model(copy=False), "copied_symbols=4: expected the default"),
        (
            lambda t: zoo.encoder_decoder(
                zoo.Tokens(5, 4), zoo.Values(3), attention="luong", copy=True
            ),
            "values are not copied",
        ),
        (lambda t: t(np.array(TEXTS)), "a call: the model copies symbols"),
        (lambda t: t.predict(TEXTS), "predict: the model copies symbols"),
        (lambda t: t.serving(), "serving: the model copies symbols"),
        (lambda t: t.translate(TEXTS, copy_unknown=True), "the model copies symbols itself"),
        (lambda t: t.translate(["i"], required=[["bo"]]), "expected a beam of at least 2"),
        (lambda t: t.translate(["i"], 2, required=[["bo"], []]), "for each of texts, 1"),
        (lambda t: t.translate(["i"], 2, required=[["Zork"]]), "'zork' is not a symbol"),
        (lambda t: t.translate(["i"], forbidden=["!"]), r"forbidden\[0\]='!': has no symbols"),
        (
            lambda t: zoo.Translator(new_model(), source(), target_of_letters()),
            "expected words on both sides, or characters",
        ),
        (lambda t: zoo.generator([], max_length=3, start=6), "expected at least one model"),
        (
            lambda t: zoo.generator([t.model, new_model(copied_symbols=3)], max_length=3, start=6),
            r"\(size, copied\) = \(7, 3\), and the first \(7, 4\)",
        ),
        (
            lambda t: zoo.generator(t.model, max_length=3, start=6, average="log_probabilities"),
            "expected the default with a single model",
        ),
        (
            lambda t: zoo.copied_ids(source(), target(), ["i"], ["i", "bo"]),
            "targets has 2 texts; expected one for each of texts, 1",
        ),
    ],
)
def test_bad_arguments(translator, make, message):
    with pytest.raises(ValueError, match=message):
        make(translator)


def target_of_letters():
    return keras.layers.TextVectorization(split="character", vocabulary=list("abc"))
