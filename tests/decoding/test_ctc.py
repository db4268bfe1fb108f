"""CTC's decoders, compared with all paths one by one, and with a search with dictionaries."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import CTCBeam, CTCGreedy, NGramLanguageModel, RecurrentLanguageModel
from kerasrnn.recurrence.log_semiring import NEVER
from tests import numpy_models
from tests.catalogue import variant_id
from tests.losses import ctc_oracle
from tests.losses.test_crossentropy import masked
from tests.measure import FIRST_BACKEND, op_by_op

BACKEND = keras.config.backend()
ROWS, FRAMES, CLASSES = 3, 5, 3
ALL = 64  # more than there are prefixes of five labels of two kinds
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
EVERYTHING = {"return_lengths": True, "return_scores": True, "return_times": True}


def fewer(cases):
    """On other backends the first: each search compiles a program of its own."""
    return cases if FIRST_BACKEND else cases[:1]


def probabilities(seed=0, rows=ROWS, frames=FRAMES, classes=CLASSES, scale=2.0):
    random = np.random.default_rng(seed)
    return numpy_models.softmax(scale * random.standard_normal((rows, frames, classes)))


def arrays(results):
    return [np.asarray(ops.convert_to_numpy(x)) for x in results]


def frames_of(b, mask):
    return np.arange(FRAMES) if mask is None else np.flatnonzero(mask[b])


def padded(values, width, padding):
    return [*values, *[padding] * (width - len(values))]


@pytest.mark.torch_backend
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("use_mask", [False, True])
def test_greedy_reads_the_best_path(use_mask, blank):
    p, mask = probabilities(1, scale=1), MASK if use_mask else None
    results = CTCGreedy(blank, **EVERYTHING)(masked(p.astype("float32"), mask))
    labels, lengths, scores, times = arrays(results)
    for b in range(ROWS):
        frames = frames_of(b, mask)
        path = p[b, frames].argmax(-1)
        expected = ctc_oracle.read(path, blank)
        assert labels[b].tolist() == padded(expected, FRAMES, blank)
        assert lengths[b] == len(expected)
        assert scores[b] == pytest.approx(np.log(p[b, frames].max(-1)).sum(), rel=1e-5)
        begins = [frames[t] for t in ctc_oracle.times(path, blank)]
        assert times[b].tolist() == padded(begins, FRAMES, -1)


def check_beam(results, p, mask, added, blank=0):
    """Compare an exhaustive search with all label sequences; `added(labels)` is their bonus."""
    labels, lengths, scores, times = arrays(results)
    for b in range(len(p)):
        frames = frames_of(b, mask)
        found = ctc_oracle.enumerate_labels(p[b, frames], blank)
        totals = {k: np.log(v) + added(k) for k, v in found.items()}
        best = sorted(totals, key=totals.get, reverse=True)
        best = [each for each in best if totals[each] > NEVER / 2][: labels.shape[1]]
        for n, each in enumerate(best):
            assert labels[b, n].tolist() == padded(each, FRAMES, blank)
            assert lengths[b, n] == len(each)
            assert scores[b, n] == pytest.approx(totals[each], abs=2e-4)
            path, _ = ctc_oracle.best_path(p[b, frames], each, blank)
            begins = [frames[t] for t in ctc_oracle.times(path, blank)]
            assert times[b, n].tolist() == padded(begins, FRAMES, -1)
        assert (labels[b, len(best) :] == blank).all()
        assert (scores[b, len(best) :] == np.float32(NEVER)).all()
        assert (times[b, len(best) :] == -1).all()


@pytest.mark.torch_backend
@pytest.mark.parametrize(("use_mask", "blank"), fewer([(True, 0), (False, 0), (False, 2)]))
def test_a_wide_beam_finds_the_most_probable_labels(use_mask, blank):
    p, mask = probabilities(2), MASK if use_mask else None
    beam = CTCBeam(ALL, n_best=6, insertion_bonus=0.3, blank=blank, **EVERYTHING)
    results = beam(masked(p.astype("float32"), mask))
    check_beam(results, p, mask, lambda labels: 0.3 * len(labels), blank)
    if use_mask:  # The best alone, of logits.
        beam = CTCBeam(ALL, insertion_bonus=0.3, blank=blank, from_logits=True, return_scores=True)
        alone = arrays(beam(masked(np.log(p).astype("float32"), mask)))
        np.testing.assert_array_equal(alone[0], arrays(results)[0][:, 0])
        np.testing.assert_allclose(alone[1], arrays(results)[2][:, 0], atol=1e-4)


TEXTS = [[1, 2], [1, 1, 2], [2, 1], [1, 2, 1], [1], [2, 2, 1, 2]]


def of_ngrams(table):
    """The score of each label after a prefix, with None of its end."""

    def score(prefix, label):
        state = table.start
        for k in prefix:
            state = table.following[state, k]
        return float(
            table.of_end[state] if label is None else table.log_probabilities[state, label]
        )

    return score


def of_sequence(score, weight, bonus):
    def added(labels):
        parts = (score(labels[:n], k) for n, k in enumerate(labels))
        return weight * (sum(parts) + score(labels, None)) + bonus * len(labels)

    return added


def test_a_wide_beam_with_n_grams():
    p = probabilities(3)
    ngrams = kerasrnn.NGrams.of_sequences(TEXTS, 3)
    model = NGramLanguageModel.from_ngrams(ngrams, CLASSES)
    beam = CTCBeam(ALL, model, 0.7, 0.5, n_best=5, **EVERYTHING)
    added = of_sequence(of_ngrams(ngrams.automaton(CLASSES)), 0.7, 0.5)
    check_beam(beam(masked(p.astype("float32"), MASK)), p, MASK, added)


def test_a_wide_beam_with_a_recurrent_language_model():
    """Its probabilities are those of the whole model, of all prefixes at once."""
    start, end = 3, 4
    language_model = zoo.next_step(zoo.Classes(5), "gru", units=4)
    random = np.random.default_rng(0)
    language_model.set_weights([random.standard_normal(w.shape) for w in language_model.weights])
    known = {}

    def score(prefix, label):
        if prefix not in known:
            p = language_model(np.array([[start, *prefix]]))
            known[prefix] = np.log(ops.convert_to_numpy(p)[0, -1])
        return known[prefix][end if label is None else label]

    p = probabilities(4, rows=2)
    model = RecurrentLanguageModel(language_model.get_layer("decoder"), start, end)
    beam = CTCBeam(ALL, model, 0.5, n_best=4, **EVERYTHING)
    check_beam(beam(p.astype("float32")), p, None, of_sequence(score, 0.5, 0.0))


WORDS = [[1], [1, 2, 1], [2, 2]]


def is_allowed(labels, separator):
    """By splitting the labels at the separators; one at the end is allowed."""
    if separator is None:
        return not labels or list(labels) in WORDS
    parts = [[]]
    for k in labels:
        if k == separator:
            parts.append([])
        else:
            parts[-1].append(k)
    return all(part in WORDS for part in parts[:-1]) and (not parts[-1] or parts[-1] in WORDS)


@pytest.mark.parametrize("separator", fewer([3, None]))
def test_a_word_list(separator):
    classes = 3 if separator is None else 4
    p = probabilities(5, classes=classes)
    beam = CTCBeam(
        400, word_list=WORDS, separator=separator, n_best=8, insertion_bonus=0.2, **EVERYTHING
    )

    def added(labels):
        return 0.2 * len(labels) if is_allowed(labels, separator) else NEVER

    check_beam(beam(p.astype("float32")), p, None, added)


@pytest.mark.torch_backend
def test_a_narrow_beam_equals_a_search_with_dictionaries():
    """Over more frames and classes than can be enumerated, with n-grams and a bonus."""
    p = probabilities(6, 2, 16, 6, scale=1.5)
    random = np.random.default_rng(1)
    texts = [random.integers(1, 6, random.integers(1, 8)).tolist() for _ in range(30)]
    ngrams = kerasrnn.NGrams.of_sequences(texts, 2)
    score = of_ngrams(ngrams.automaton(6))
    model = NGramLanguageModel.from_ngrams(ngrams, 6)
    searches = [
        (8, {"language_model": model, "language_weight": 0.5}, lambda *x: 0.5 * score(*x)),
        (3, {"language_model": model}, score),
        (1, {}, None),
    ]
    for width, options, of_labels in fewer(searches):
        beam = CTCBeam(width, insertion_bonus=0.4, n_best=width, **options, **EVERYTHING)
        labels, lengths, scores, _ = arrays(beam(p.astype("float32")))
        for b in range(len(p)):
            expected = ctc_oracle.prefix_search(p[b], width, of_labels, 0.4)
            found = [tuple(labels[b, n, : lengths[b, n]]) for n in range(width)]
            assert found == [each for each, _ in expected]
            np.testing.assert_allclose(scores[b], [s for _, s in expected], atol=2e-4)


def test_nothing_that_the_words_allow():
    """Only words of two labels, and a single frame: nothing but the empty sequence; nor that."""
    p = np.array([[[0.3, 0.7, 0.0]]], "float32")
    beam = CTCBeam(4, word_list=[[1, 2]], n_best=2, **EVERYTHING)
    labels, lengths, scores, times = arrays(beam(p))
    assert (labels[0, :, 0].tolist(), lengths[0].tolist()) == ([0, 0], [0, 0])
    np.testing.assert_allclose(scores[0], [np.log(0.3), NEVER], rtol=1e-6)
    assert times[0].tolist() == [[-1], [-1]]


def test_in_a_model_that_is_saved(tmp_path):
    """In `predict`, of unknown length, with language models, words and the mask of the outputs."""
    x = keras.Input((None, CLASSES + 1))
    p = keras.layers.Activation("softmax")(keras.layers.Masking(-9.0)(x))
    ngrams = kerasrnn.NGrams.of_sequences(TEXTS, 2)
    model = NGramLanguageModel.from_ngrams(ngrams, CLASSES + 1)
    decoder = zoo.next_step(zoo.Classes(6), "gru", units=4).get_layer("decoder")
    recurrent = RecurrentLanguageModel(decoder, start=4, end=5)
    one = CTCBeam(4, model, word_list=WORDS, separator=3, return_times=True)(p)
    other = CTCBeam(3, recurrent, 0.5, n_best=2)(p)
    model = keras.Model(x, [*one, other, CTCGreedy()(p)])
    inputs = np.log(probabilities(7, classes=CLASSES + 1)).astype("float32")
    inputs[~MASK] = -9
    found = model.predict(inputs, verbose=0)
    direct = CTCGreedy()(masked(ops.softmax(inputs), MASK))
    np.testing.assert_array_equal(found[-1], ops.convert_to_numpy(direct))
    assert [array.shape for array in found] == [(3, 5), (3, 5), (3, 2, 5), (3, 5)]
    model.save(tmp_path / "model.keras")
    with op_by_op():
        again = keras.saving.load_model(tmp_path / "model.keras").predict(inputs, verbose=0)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.tensorflow
def test_under_xla():
    import tensorflow as tf

    p = probabilities(8).astype("float32")
    ngrams = kerasrnn.NGrams.of_sequences(TEXTS, 2)
    beam = CTCBeam(6, NGramLanguageModel.from_ngrams(ngrams, CLASSES), n_best=2, **EVERYTHING)
    compiled = tf.function(beam, autograph=False, jit_compile=True)
    for one, other in zip(arrays(compiled(p, MASK)), arrays(beam(p, MASK)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


P = np.full((2, 4, 3), 1 / 3, "float32")
NGRAMS = kerasrnn.NGrams.of_sequences(TEXTS, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CTCGreedy(blank=-1), "blank=-1: expected an integer of at least 0"),
        (lambda: CTCGreedy(blank=3)(P), r"outputs of the shape \(2, 4, 3\): expected .*class 3"),
        (lambda: CTCGreedy()(P[0]), r"outputs of the shape \(4, 3\): expected \(batch, time, cl"),
        (lambda: CTCBeam(0), "width=0: expected a positive integer"),
        (lambda: CTCBeam(2, n_best=3), "n_best=3: expected an integer from 1 to 2"),
        (lambda: CTCBeam(language_model="x"), "language_model='x': expected a kerasrnn.decoding"),
        (lambda: CTCBeam(language_weight=-1), "language_weight=-1: expected a finite number of"),
        (lambda: CTCBeam(separator=1), "separator=1: expected None without a word_list"),
        (lambda: CTCBeam(word_list=[[1], []]), r"word_list\[1\]=\[\]: expected a sequence of ids"),
        (lambda: CTCBeam(word_list=["ab"]), r"word_list\[0\]='ab': expected a sequence of ids"),
        (lambda: CTCBeam(word_list=3), "word_list=3: expected a list of words or None"),
        (lambda: CTCBeam(word_list=[1, 2]), r"word_list\[0\]=1: expected a sequence of ids"),
        (lambda: CTCBeam(word_list=[[1]], separator=0), "separator=0: expected another id than th"),
        (lambda: CTCBeam(word_list=[[1]], separator=-1), "separator=-1: expected an integer of at"),
        (lambda: CTCBeam(word_list=[[1]], separator=9)(P), "separator=9: expected a class of the"),
        (
            lambda: CTCGreedy()(P - 9),
            "expected non-negative probabilities in outputs",
        ),
        (lambda: CTCBeam()(2 * P), "from_logits=False: .*; found the sum 2"),
        (lambda: CTCGreedy(from_logits=True)(P), "from_logits=True: expected logits; outputs cont"),
        (lambda: CTCBeam(word_list=[[1, 3]])(P), r"word_list\[0\]=\[1, 3\]: expected classes fr"),
        (
            lambda: CTCBeam(word_list=[[1, 2]], separator=2)(P),
            r"word_list\[0\]=\[1, 2\]: expected classes from 0 to 2, other than the blank and",
        ),
        (
            lambda: CTCBeam(2, NGramLanguageModel.from_ngrams(NGRAMS, 4))(P),
            "the language model has 4 classes, and the outputs 3",
        ),
        (
            lambda: NGramLanguageModel.from_ngrams(kerasrnn.NGrams.of_sequences([[1, 4]], 2), 4),
            "classes=4: expected more than the greatest id of the sequences, 4",
        ),
        (lambda: CTCBeam()(P[:, :0]), r"outputs of shape \(2, 0, 3\) have no steps"),
        (
            lambda: NGramLanguageModel.from_ngrams("x", 3),
            r"ngrams='x': expected a kerasrnn\.NGrams",
        ),
        (
            lambda: RecurrentLanguageModel("x", 1),
            r"decoder='x': expected a kerasrnn\.Decoder of classes",
        ),
        (
            lambda: RecurrentLanguageModel(kerasrnn.Decoder(5, [kerasrnn.GRU(2)]), 5),
            "start=5: expected an integer from 1 to 4",
        ),
        (
            lambda: CTCBeam(
                2, RecurrentLanguageModel(kerasrnn.Decoder(5, [kerasrnn.GRU(2)]), 1), blank=1
            )(P),
            "blank=1: expected 0 with a recurrent language model",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
