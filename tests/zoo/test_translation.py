"""The translations of a `Translator` are those of its model, symbol by symbol."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import kerasrnn
from kerasrnn import zoo
from kerasrnn.zoo import reading

# Untrained models rarely generate the end symbol.
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:.*translations were truncated"),
]

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
    # With larger weights, translations have different lengths and unknown sounds.
    for weight in model.weights:
        weight.assign(3 * weight.value)
    return zoo.Translator(model, letters(), sounds(), max_length=6)


def test_targets_of_training():
    previous, target = reading.target_ids(sounds(), ["K AE B", "B", "?"])
    assert previous.tolist() == [[6, 4, 2, 3], [6, 3, 0, 0], [6, 1, 0, 0]]
    assert target.tolist() == [[4, 2, 3, 5], [3, 5, 0, 0], [1, 5, 0, 0]]


@pytest.mark.parametrize("beam", [1, 3])
def test_scores_and_attention_of_translations(translator, beam):
    """The score is that of teacher forcing; other texts of the batch do not change it."""
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
            p[:, [0, 1, 6]] = 0  # padding, the unknown and the start: never
            assert p.argmax(axis=-1).tolist() == path
        if text == "b":  # padded in the batch
            (alone,) = translator.explain([text], beam=beam, length_penalty=0.5)
            assert alone.text == said.text
    assert len({said.text for said in found}) > 1


@pytest.mark.traced
def test_compiled_translations(translator):
    """XLA pads the three texts to a batch of four; they are the same."""
    plain, compiled = (translator.explain(TEXTS[:3], 2, jit_compile=jit) for jit in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        assert one.symbols == other.symbols
        np.testing.assert_allclose(one.score, other.score, atol=1e-5)
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)


@pytest.mark.traced
def test_translations_do_not_depend_on_the_batch_size(translator):
    texts = [text * k for k in (1, 2, 3) for text in ("ab", "c", "bca")]
    assert translator.translate(texts, batch_size=2) == translator.translate(texts)


def test_a_greedy_call_of_a_saved_translator(translator, tmp_path):
    texts = np.array(TEXTS)
    said = [text.decode() for text in translator(texts).numpy()]
    assert said == translator.translate(TEXTS)
    translator.save(tmp_path / "translator.keras")
    loaded = keras.saving.load_model(tmp_path / "translator.keras")
    assert loaded.translate(TEXTS, beam=2) == translator.translate(TEXTS, beam=2)
    assert [text.decode() for text in loaded(texts).numpy()] == said
    assert loaded.max_length == 6


@pytest.mark.traced
def test_the_export_maps_texts_to_texts(translator, tmp_path):
    texts = np.array(TEXTS, dtype=object)
    serving = translator.serving(beam=3, length_penalty=0.5)
    expected = translator.translate(TEXTS, beam=3, length_penalty=0.5)
    assert [text.decode() for text in serving(texts).numpy()] == expected
    report = kerasrnn.export.to_saved_model(serving, tmp_path / "m", check=[texts, texts[:1]])
    assert report.batches == 2


def words(vocabulary=("a", "b"), **options):
    options = {"standardize": None, **options}
    return keras.layers.TextVectorization(vocabulary=list(vocabulary), **options)


def always(model, *bias):
    """Set the predictions of the decoder to constants, whose logits are `bias`."""
    readout = model.get_layer("decoder").readout
    readout.kernel.assign(np.zeros(readout.kernel.shape))
    readout.bias.assign(np.array(bias, "float32"))


def four_ways(translator, texts):
    """The results of a call, `translate`, the exported model of texts and that of ids."""
    array = np.array(texts, dtype=object)
    ids = keras.ops.pad(translator.source(array), ((0, 0), (0, 1)))
    return [
        [text.decode() for text in translator(array).numpy()],
        translator.translate(texts),
        [text.decode() for text in translator.serving()(array).numpy()],
        [translator.text(row) for row in translator.writer()(ids).numpy()],
    ]


def test_start_padding_and_the_unknown_symbol_are_not_generated():
    """Scores are the model's probabilities, not normalized again without these symbols."""
    model = zoo.encoder_decoder(
        zoo.Tokens(4, 4), zoo.Classes(6), cell="simple_rnn", units=4, attention="luong"
    )
    always(model, 9.0, 8.0, 1.0, 2.0, 0.0, 9.0)  # padding, unknown, a, b, end, start
    translator = zoo.Translator(model, words(), words(), max_length=3)
    assert four_ways(translator, ["a b"]) == [["b b b"]] * 4
    (greedy,) = translator.explain(["a b"])
    (found,) = translator.explain(["a b"], beam=4, length_penalty=0.0)
    log_p = np.log(np.exp([2.0, 0.0]) / np.exp([9.0, 8.0, 1.0, 2.0, 0.0, 9.0]).sum())
    np.testing.assert_allclose(greedy.score, 3 * log_p[0], rtol=1e-5)
    assert found.symbols == []  # the end alone is more probable than three symbols
    np.testing.assert_allclose(found.score, log_p[1], rtol=1e-5)


def test_unknown_words_are_copied_with_capitals_and_punctuation():
    """The word that consists of punctuation has no symbol."""
    german = words(["ein", "mann", "läuft"], standardize="lower_and_strip_punctuation")
    model = zoo.encoder_decoder(
        zoo.Tokens(5, 4), zoo.Classes(6), cell="simple_rnn", units=4, attention="luong"
    )
    always(model, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0)
    translator = zoo.Translator(model, german, words(), max_length=2)
    text = "Ein Mann mit der -- Nummer 47, läuft."
    read = ["Ein", "Mann", "mit", "der", "Nummer", "47,", "läuft."]
    (said,) = translator.explain([text], copy_unknown=True)
    assert said.source == ["ein", "mann", "mit", "der", "nummer", "47", "läuft"]
    assert said.symbols == [read[n] for n in said.attention.argmax(axis=-1)]
    assert said.text == " ".join(said.symbols)
    assert "[UNK]" not in translator.translate([text])[0]


def test_translators_that_cannot_copy():
    pieces = kerasrnn.SentencePieceVectorization.train(["the cat sat", "a hat"] * 20, size=11)
    known = words(pieces.get_vocabulary()[2:])
    attends = zoo.encoder_decoder(
        zoo.Tokens(11, 4), zoo.Classes(13), cell="gru", units=4, attention="luong"
    )
    plain = zoo.encoder_decoder(zoo.Tokens(11, 4), zoo.Classes(13), cell="gru", units=4)
    letters_ = words(known.get_vocabulary()[2:], split="character")
    for model, source, target, message in (
        (attends, pieces, known, "source splits texts into pieces"),
        (attends, known, pieces, "target splits texts into pieces"),
        (attends, letters_, known, "expected words on both sides, or characters on both"),
        (plain, known, known, "the model has no attention"),
    ):
        translator = zoo.Translator(model, source, target)
        with pytest.raises(ValueError, match=f"copy_unknown=True: .*{message}"):
            translator.translate(["a cat"], copy_unknown=True)


@pytest.mark.parametrize(
    ("standardize", "split", "expected"),
    [
        (None, "whitespace", ["Don't", "stop!"]),
        ("lower", "whitespace", ["don't", "stop!"]),
        ("lower_and_strip_punctuation", "whitespace", ["dont", "stop"]),
        ("strip_punctuation", "character", [*"Dont stop"]),
    ],
)
def test_tokens_are_those_of_keras(standardize, split, expected):
    layer = keras.layers.TextVectorization(split=split, standardize=standardize)
    assert reading.tokens(layer, "Don't stop!") == expected
    layer.adapt(["Don't stop!"])
    assert sorted(layer.get_vocabulary()[2:]) == sorted(set(expected))
    joined = reading.joined(layer, expected)
    assert joined == (" " if split == "whitespace" else "").join(expected)


def test_pieces():
    pieces = kerasrnn.SentencePieceVectorization.train(["the cat sat", "a hat"] * 20, size=11)
    symbols = reading.tokens(pieces, "the cat")
    assert reading.joined(pieces, symbols) == "the cat"
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


SPACES = " \u00a0\u2003\x1c\x85\t\n\r\x0b\x0c\x00\ufeff\u200b"
ALPHABET = "aAbBiIıİßẞÄä\u0301é.,!'-日本\U0001f600" + SPACES
STANDARDS = [None, "lower", "strip_punctuation", "lower_and_strip_punctuation"]


@given(st.text(ALPHABET, max_size=12), st.sampled_from(STANDARDS))
@pytest.mark.parametrize("split", ["whitespace", "character"])
def test_symbols_are_those_of_the_ids(split, text, standardize):
    """Over all of Unicode; each symbol has a place in the original text."""
    known = ["a", "A", "b", "i", "İ", "ı", "é", "日", " ", "aa", "ab", "a\u00a0b", "."]
    layer = VECTORIZERS.setdefault(
        (split, standardize), words(known, split=split, standardize=standardize)
    )
    symbols = reading.tokens(layer, text)
    ids = np.asarray(layer([text]))[0].tolist()
    assert len(symbols) == len(ids)
    names = layer.get_vocabulary()
    for symbol, n in zip(symbols, ids, strict=True):
        assert names[n] == symbol if n > 1 else symbol not in known
    (written,) = reading.surfaces(layer, [text])
    assert len(written) == len(symbols)
    place = 0
    for surface, symbol in zip(written, symbols, strict=True):
        assert reading.tokens(layer, surface) == [symbol]
        place = text.index(surface, place) + len(surface)


VECTORIZERS = {}


def test_pieces_are_those_of_the_ids():
    texts = ["the cat sat", "a hat", "İstanbul ẞ", "日本 語", "e\u0301\u00a0x"] * 8
    pieces = kerasrnn.SentencePieceVectorization.train(texts, size=22)
    for text in [*texts, "\u2003a\x85b \U0001f600\U0001f600 zzz", "\ufeffthe\u200bcat", "", " \t"]:
        symbols = reading.tokens(pieces, text)
        ids = np.asarray(pieces([text]))[0]
        assert len(symbols) == len(ids)
        names = pieces.get_vocabulary()
        for symbol, n in zip(symbols, ids, strict=True):
            assert names[n] == symbol if n > 1 else symbol not in names


def test_attention_has_a_column_for_each_symbol():
    """Python's `lower` maps İ to two characters, and its `split` splits at other spaces."""
    source = words(["i", "s"], split="character", standardize="lower")
    model = zoo.encoder_decoder(
        zoo.Tokens(4, 4), zoo.Classes(6), cell="gru", units=4, attention="luong"
    )
    (said,) = zoo.Translator(model, source, words(), max_length=2).explain(["İstanbul\u00a0"])
    assert said.source == [*"İstanbul\u00a0"]
    np.testing.assert_allclose(said.attention.sum(axis=1), 1, atol=1e-5)


def test_texts_are_reduced_to_those_that_a_model_can_write():
    layer = words(standardize="lower_and_strip_punctuation")
    assert reading.readable(layer, ["A  Dog, ran!", "--"]) == ["a dog ran", ""]
    assert reading.readable(sounds(), [" K  AE\tT "]) == ["K AE T"]


@pytest.mark.parametrize(("limit", "lengths"), [(None, [5, 5]), ((2, 1), [3, 5])])
def test_limits_of_a_model_that_never_ends(limit, lengths):
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    always(model, 0.0, 0.0, 0.0, 99.0, 0.0, 0.0, 0.0)
    translator = zoo.Translator(model, letters(), sounds(), max_length=5, length_limit=limit)
    expected = [" ".join("B" * length) for length in lengths]
    assert four_ways(translator, ["a", "cab"]) == [expected] * 4
    assert [said.truncated for said in translator.explain(["a", "cab"])] == [True, True]
    again = zoo.Translator.from_config(translator.get_config())
    assert (again.max_length, again.length_limit) == (5, limit)


@pytest.mark.parametrize(
    ("limit", "lengths"), [((0.5, 3), [3, 4, 0]), ((0.1, 0), [1, 1, 0]), ((0, 40), [14, 14, 0])]
)
def test_limits_of_texts_of_one_three_and_no_symbols(limit, lengths):
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    translator = zoo.Translator(model, letters(), sounds(), max_length=14, length_limit=limit)
    ids = np.array([[2, 0, 0], [2, 3, 4], [0, 0, 0]])
    assert np.asarray(translator._longest(ids)).tolist() == lengths


def test_truncated_translations_are_reported():
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    always(model, 0.0, 0.0, 0.0, 0.0, 0.0, 99.0, 0.0)
    translator = zoo.Translator(model, letters(), sounds(), max_length=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert translator.translate(["a", "b"]) == ["", ""]
    assert not any(said.truncated for said in translator.explain(["a", "b"], beam=3))
    always(model, 0.0, 0.0, 0.0, 99.0, 0.0, 0.0, 0.0)
    message = (
        r"2 of 3 translations were truncated .*max_length=4, length_limit=None\): .*texts 0, 2\."
    )
    with pytest.warns(UserWarning, match=message):
        translator.translate(["a", "", "b"])


def test_translators_saved_by_version_0_1_keep_their_limit(translator):
    config = translator.get_config()
    del config["length_limit"]
    assert zoo.Translator.from_config(config).length_limit == (2.0, 10)


def test_the_translation_of_an_empty_text_is_empty(translator):
    """Alone and beside others."""
    assert four_ways(translator, [""]) == [[""]] * 4
    (alone,) = translator.translate(["cab"])
    assert four_ways(translator, ["", "cab"]) == [["", alone]] * 4
    empty, _ = translator.explain(["", "cab"], beam=2)
    assert (empty.text, empty.symbols, empty.source, empty.score) == ("", [], [], 0.0)
    assert not empty.truncated
    assert translator.translate(["", "cab"], beam=2, n_best=2)[0] == [""]


def test_the_n_best(translator):
    """In the order of their scores, which are those of teacher forcing."""
    found = translator.explain(TEXTS, beam=4, length_penalty=0.5, n_best=3)
    best = translator.translate(TEXTS, beam=4, length_penalty=0.5)
    for text, several, first in zip(TEXTS, found, best, strict=True):
        assert several[0].text == first
        assert len(several) == len({(said.text, said.truncated) for said in several}) == 3
        assert [said.score for said in several] == sorted((s.score for s in several), reverse=True)
        for said in several:
            total, length = teacher_forced(translator, text, said)
            np.testing.assert_allclose(said.score, total / ((5 + length) / 6) ** 0.5, rtol=1e-4)
            assert said.attention.shape == (length, len(text))
    assert translator.translate(TEXTS[:2], beam=4, length_penalty=0.5, n_best=3) == [
        [said.text for said in several] for several in found[:2]
    ]
    sampler = kerasrnn.decoding.Beam(4, 0.5, n_best=3)
    assert [len(several) for several in translator.explain(TEXTS[:2], sampler=sampler)] == [3] * 2


def teacher_forced(translator, text, said):
    """The log-probability of a translation, and the number of its symbols, with the end."""
    names = ["", "[UNK]", "AE", "B", "K"]
    path = [names.index(symbol) for symbol in said.symbols] + ([] if said.truncated else [5])
    given = [np.asarray(letters()([text])), np.array([[6, *path[:-1]]])]
    p = np.asarray(translator.model(given))[0]
    return np.log(p[np.arange(len(path)), path]).sum(), len(path)


@pytest.mark.parametrize("beam", [1, 3])
def test_prefixes(translator, beam):
    """A translation continues its prefix greedily; the score includes the prefix."""
    prefix = ["K K", "", "B AE K", "AE"]
    found = translator.explain(TEXTS, beam=beam, length_penalty=0.0, prefix=prefix)
    for text, start, said in zip(TEXTS, prefix, found, strict=True):
        assert said.symbols[: len(start.split())] == start.split()
        total, length = teacher_forced(translator, text, said)
        np.testing.assert_allclose(said.score, total, rtol=1e-4)
        assert len(said.attention) == length
        if beam > 1:
            continue
        ids = [6, *(["", "", "AE", "B", "K"].index(symbol) for symbol in said.symbols)]
        p = np.array(translator.model([np.asarray(letters()([text])), np.array([ids])]))[0]
        p[:, [0, 1, 6]] = 0
        chosen = p.argmax(axis=-1)[len(start.split()) : length].tolist()
        assert chosen == [*ids[1 + len(start.split()) :], *([] if said.truncated else [5])]
    (without,) = translator.explain(TEXTS[1:2], beam=beam, length_penalty=0.0)
    assert found[1].text == without.text


def test_processors(translator):
    rule = kerasrnn.decoding.NoRepeatNGrams(1)
    for beam in (1, 3):
        for said in translator.explain(TEXTS, beam=beam, processors=[rule]):
            assert len(set(said.symbols)) == len(said.symbols)
    array = np.array(TEXTS, dtype=object)
    served = translator.serving(processors=[rule])(array).numpy()
    assert [x.decode() for x in served] == translator.translate(TEXTS, processors=[rule])


class Series:
    """Like a filtered pandas Series: indexed by labels, iterated over by values."""

    ndim, shape = 1, (4,)

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, label):
        return self.values[label]

    def __iter__(self):
        return iter(self.values.values())


@pytest.mark.traced
def test_collections_of_texts(translator):
    expected = translator.translate(TEXTS)
    series = Series({3: TEXTS[0], 0: TEXTS[1], 9: TEXTS[2], 1: TEXTS[3]})
    for texts in (
        tuple(TEXTS),
        iter(TEXTS),
        (text for text in TEXTS),
        np.array(TEXTS),
        np.array([text.encode() for text in TEXTS]),
        tf.constant(TEXTS),
        series,
    ):
        assert translator.translate(texts) == expected
    expected = [text.encode() for text in expected]
    for make in (list, iter, np.array, tf.constant):
        assert translator(make(TEXTS)).numpy().tolist() == expected
        assert translator.predict(make(TEXTS), verbose=0).tolist() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.translate("cab"), "texts='cab': expected a list of texts"),
        (lambda t: t("cab"), "inputs='cab': expected a list of texts"),
        (lambda t: t(np.array([1])), r"inputs\[0\]=.*1.*: expected a text"),
        (lambda t: t.predict([]), r"x=\[\]: expected a list of texts"),
        (lambda t: t.predict(["a"], batch_size=0), "batch_size=0: expected a positive integer"),
        (lambda t: t.translate([]), r"texts=\[\]: expected a list of texts"),
        (lambda t: t.translate(None), "texts=None: expected a list of texts"),
        (lambda t: t.translate(3), "texts=3: expected a list of texts"),
        (lambda t: t.translate({"a": 1}), "texts={'a': 1}: expected a list of texts"),
        (lambda t: t.translate(np.array("a")), r"texts has the shape \(\); expected a list"),
        (lambda t: t.translate(np.array([["a"]])), r"texts has the shape \(1, 1\); expected"),
        (lambda t: t.translate(iter([])), r"texts=\[\]: expected a list of texts"),
        (lambda t: t.translate(["a", None]), r"texts\[1\]=None: expected a text"),
        (lambda t: t.translate([["a"]]), r"texts\[0\]=\['a'\]: expected a text"),
        (lambda t: t.translate(["\ud800"]), r"texts\[0\]='\\ud800': expected text that can be"),
        (lambda t: t.translate([b"\xff"]), r"texts\[0\]=b'\\xff': expected text that can be"),
        (lambda t: t.translate(["a"], beam=0), "beam=0: expected a positive integer"),
        (lambda t: t.translate(["a"], batch_size=0), "batch_size=0: expected a positive integer"),
        (lambda t: t.translate(["a"], n_best=0), "n_best=0: expected a positive integer"),
        (lambda t: t.translate(["a"], n_best=2), "n_best=2: expected an integer from 1 to 1"),
        (
            lambda t: t.translate(["a"], n_best=2, sampler=kerasrnn.decoding.Greedy()),
            "n_best=2: expected None with sampler",
        ),
        (lambda t: t.translate(["a", "b"], prefix=["B"]), "prefix has 1 text; expected .* 2"),
        (lambda t: t.translate(["a"], prefix="B"), "prefix='B': expected a list of texts"),
        (
            lambda t: t.translate(["a", "b"], prefix=["", "B x"]),
            r"prefix\[1\]='B x': 'x' is not a symbol of the target",
        ),
        (
            lambda t: t.translate(["a"], prefix=["B B B B B B"]),
            r"prefix\[0\]=.*: has 6 symbols; expected fewer than the longest translation has, 6",
        ),
        (
            lambda t: t.translate(["a"], processors=kerasrnn.decoding.NoRepeatNGrams(2)),
            r"processors=NoRepeatNGrams\(n=2\): expected a list of LogitsProcessor",
        ),
        (
            lambda t: zoo.Translator(t.model, t.source, t.target, length_limit=2),
            r"length_limit=2: expected \(factor, number of symbols\) or None",
        ),
        (
            lambda t: zoo.Translator(t.model, t.source, t.target, length_limit=(2, -1)),
            r"length_limit\[1\]=-1: expected an integer of at least 0",
        ),
        (
            lambda t: zoo.Translator(t.model, words(ngrams=2), t.target),
            "source: ngrams=2: expected None",
        ),
        (
            lambda t: zoo.Translator(t.model, t.source, words(output_mode="multi_hot")),
            "target: output_mode='multi_hot': expected 'int'",
        ),
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
def test_bad_arguments(translator, call, message):
    with pytest.raises(ValueError, match=message):
        call(translator)


def test_translations_without_attention():
    model = zoo.encoder_decoder(zoo.Tokens(5, 4), zoo.Classes(7), cell="gru", units=4)
    translator = zoo.Translator(model, letters(), sounds(), max_length=3)
    (said,) = translator.explain(["cab"])
    assert said.attention is None
