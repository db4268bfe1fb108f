"""Text in, text out: what a translator says is what its model says, symbol for symbol."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.zoo import translation

pytestmark = pytest.mark.tensorflow

TEXTS = ["cab", "b", "abcabcabca", "xa"]


def letters():
    return keras.layers.TextVectorization(split="character", vocabulary=list("abc"))


def sounds():
    return keras.layers.TextVectorization(vocabulary=["AE", "B", "K"], standardize=None)


@pytest.fixture(scope="module")
def translator():
    keras.utils.set_random_seed(2)
    model = zoo.encoder_decoder(
        zoo.Tokens(5, 8), zoo.Classes(7), cell="gru", units=8, attention="bahdanau"
    )
    # So that texts end at different places, and unknown sounds occur.
    for weight in model.weights:
        weight.assign(3 * weight.value)
    return zoo.Translator(model, letters(), sounds(), max_length=6)


def test_targets_of_training():
    previous, target = translation.target_ids(sounds(), ["K AE B", "B", "?"])
    assert previous.tolist() == [[6, 4, 2, 3], [6, 3, 0, 0], [6, 1, 0, 0]]
    assert target.tolist() == [[4, 2, 3, 5], [3, 5, 0, 0], [1, 5, 0, 0]]


@pytest.mark.parametrize("beam", [1, 3])
def test_what_it_says_is_what_the_model_says(translator, beam):
    """Teacher forcing of what was said gives its score; alone or among others, it is the same."""
    found = translator.explain(TEXTS, beam=beam, length_penalty=0.5)
    for text, said in zip(TEXTS, found, strict=True):
        assert said.source == list(text)
        assert said.text == " ".join(said.symbols)
        ids = [["", "[UNK]", "AE", "B", "K"].index(symbol) for symbol in said.symbols]
        ended = len(said.attention) > len(ids)
        path = [*ids, 5] if ended else ids
        p = np.array(
            translator.model([np.asarray(letters()([text])), np.array([[6, *path[:-1]]])])
        )[0]
        total = np.log(p[np.arange(len(path)), path]).sum()
        penalty = ((5 + len(path)) / 6) ** 0.5 if beam > 1 else 1.0
        np.testing.assert_allclose(said.score, total / penalty, rtol=1e-4)
        assert said.attention.shape == (len(path), len(text))
        np.testing.assert_allclose(said.attention.sum(axis=-1), 1, atol=1e-5)
        if beam == 1:
            p[:, 0] = 0
            assert p.argmax(axis=-1).tolist() == path
        (alone,) = translator.explain([text], beam=beam, length_penalty=0.5)
        assert alone.text == said.text
    assert len({said.text for said in found}) > 1


def test_batches_do_not_matter(translator):
    texts = [text * k for k in (1, 2, 3) for text in ("ab", "c", "bca")]
    assert translator.translate(texts, batch_size=2) == translator.translate(texts)


def test_a_call_is_greedy_and_is_saved(translator, tmp_path):
    texts = np.array(TEXTS)
    said = [text.decode() for text in translator(texts).numpy()]
    assert said == translator.translate(TEXTS)
    translator.save(tmp_path / "translator.keras")
    loaded = keras.saving.load_model(tmp_path / "translator.keras")
    assert loaded.translate(TEXTS, beam=2) == translator.translate(TEXTS, beam=2)
    assert [text.decode() for text in loaded(texts).numpy()] == said
    assert loaded.max_length == 6


def test_it_is_exported_as_a_whole(translator, tmp_path):
    """Strings in, strings out, the beam inside."""
    texts = np.array(TEXTS, dtype=object)
    serving = translator.serving(beam=3, length_penalty=0.5)
    expected = translator.translate(TEXTS, beam=3, length_penalty=0.5)
    assert [text.decode() for text in serving(texts).numpy()] == expected
    report = kerasrnn.export.to_saved_model(serving, tmp_path / "m", check=[texts, texts[:1]])
    assert report.batches == 2


def test_unknown_words_are_copied():
    """A model that says of everything: unknown, end. It attends to the last word, by its state."""
    words = keras.layers.TextVectorization(vocabulary=["a", "b"], standardize=None)
    model = zoo.encoder_decoder(
        zoo.Tokens(4, 4), zoo.Classes(6), cell="simple_rnn", units=4, attention="luong"
    )
    translator = zoo.Translator(model, words, words, max_length=2)
    readout = model.get_layer("decoder").readout
    readout.kernel.assign(np.zeros(readout.kernel.shape))
    readout.bias.assign([0.0, 9.0, 0.0, 0.0, 0.0, 0.0])
    (said,) = translator.explain(["a Zoe b"])
    assert said.symbols == ["[UNK]", "[UNK]"]
    places = said.attention.argmax(axis=-1)
    (copied,) = translator.explain(["a Zoe b"], copy_unknown=True)
    assert copied.symbols == [["a", "Zoe", "b"][n] for n in places]
    assert copied.text == " ".join(copied.symbols)


@pytest.mark.parametrize(
    ("standardize", "split", "expected"),
    [
        (None, "whitespace", ["Don't", "stop!"]),
        ("lower", "whitespace", ["don't", "stop!"]),
        ("lower_and_strip_punctuation", "whitespace", ["dont", "stop"]),
        ("strip_punctuation", "character", [*"Dont stop"]),
    ],
)
def test_texts_are_cut_as_keras_cuts_them(standardize, split, expected):
    layer = keras.layers.TextVectorization(split=split, standardize=standardize)
    assert translation.tokens(layer, "Don't stop!") == expected
    layer.adapt(["Don't stop!"])
    assert sorted(layer.get_vocabulary()[2:]) == sorted(set(expected))
    joined = translation.joined(layer, expected)
    assert joined == (" " if split == "whitespace" else "").join(expected)


def test_pieces():
    pieces = kerasrnn.SentencePieceVectorization.train(["the cat sat", "a hat"] * 20, size=11)
    symbols = translation.tokens(pieces, "the cat")
    assert translation.joined(pieces, symbols) == "the cat"
    size = len(pieces.get_vocabulary())
    model = zoo.encoder_decoder(
        zoo.Tokens(size, 4), zoo.Classes(size + 2), cell="gru", units=4, attention="luong"
    )
    translator = zoo.Translator(model, pieces, pieces, max_length=5)
    (said,) = translator.explain(["the cat"])
    assert said.source == symbols
    ids = [pieces.get_vocabulary().index(symbol) for symbol in said.symbols]
    assert said.text.replace("<unk>", "") == pieces.decode([n for n in ids if n > 1])
    assert translator(np.array(["the cat"])).numpy()[0].decode() == said.text


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.translate("cab"), "texts='cab': expected a list of texts"),
        (lambda t: t.translate([]), r"texts=\[\]: expected a list of texts"),
        (lambda t: t.translate(["a", ""]), "'' has nothing to translate"),
        (lambda t: t.translate(["a"], beam=0), "width=0"),
        (
            lambda t: t.translate(["a"], beam=2, sampler=kerasrnn.decoding.Greedy()),
            "beam=2: expected 1 with sampler",
        ),
        (
            lambda t: zoo.Translator(t.model, t.source, t.target, max_length=0),
            "max_length=0: expected a positive integer",
        ),
        (
            lambda t: zoo.Translator(t.model, t.source, keras.layers.StringLookup()),
            "target=.*expected a TextVectorization whose split",
        ),
        (
            lambda t: zoo.Translator(
                t.model, t.source, keras.layers.TextVectorization(vocabulary=["A"])
            ),
            "model has 7 classes; expected 5: the target's 3",
        ),
    ],
)
def test_bad_arguments(translator, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(translator)


def test_a_text_without_an_end():
    """It has ten symbols more than twice the source, or `max_length`."""
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    model.get_layer("decoder").readout.bias.assign([0.0, 0.0, 0.0, 99.0, 0.0, 0.0, 0.0])
    translator = zoo.Translator(model, letters(), sounds(), max_length=14)
    assert translator.translate(["a", "cab"]) == [" ".join("B" * 12), " ".join("B" * 14)]


def test_copying_needs_attention():
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    translator = zoo.Translator(model, letters(), sounds(), max_length=3)
    (said,) = translator.explain(["cab"])
    assert said.attention is None
    with pytest.raises(ValueError, match="copy_unknown=True: the model has no attention"):
        translator.translate(["cab"], copy_unknown=True)
