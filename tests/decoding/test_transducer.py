"""A transducer's decoders, compared with all paths one by one, and with searches in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import (
    NGramLanguageModel,
    RecurrentLanguageModel,
    TransducerBeam,
    TransducerGreedy,
)
from kerasrnn.recurrence.log_semiring import NEVER
from tests.catalogue import variant_id
from tests.decoding.test_ctc import of_ngrams, of_sequence
from tests.heads import transducer_oracle
from tests.losses.test_crossentropy import masked
from tests.measure import op_by_op

ROWS, FRAMES, FEATURES, CLASSES = 3, 3, 2, 3
MASK = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0]], bool)
EVERYTHING = {"return_lengths": True, "return_scores": True, "return_times": True}
ALL = 20  # more than there are label sequences with at most one label at each of three frames


def head_of(seed=0, scale=1.5, classes=CLASSES):
    head = kerasrnn.Transducer(classes, [kerasrnn.SimpleRNN(3)], units=4, embedding_units=2)
    head.build((None, None, FEATURES), (None, None))
    random = np.random.default_rng(seed)
    head.set_weights([scale * random.standard_normal(w.shape) for w in head.get_weights()])
    return head


def frames_of(seed=0, rows=ROWS, frames=FRAMES):
    random = np.random.default_rng(100 + seed)
    return random.standard_normal((rows, frames, FEATURES)).astype("float32")


def arrays(results):
    return [np.asarray(ops.convert_to_numpy(x)) for x in results]


def padded(values, width, padding):
    return [*values, *[padding] * (width - len(values))]


@pytest.mark.torch_backend
@pytest.mark.parametrize("use_mask", [False, True])
def test_greedy_reads_the_best_path(use_mask):
    """Of weights with up to two labels at a frame, one of them for want of a third."""
    head, x, mask = head_of(4), frames_of(4), MASK if use_mask else None
    w = transducer_oracle.Weights.of(head)
    with op_by_op():
        results = arrays(TransducerGreedy(head, 2, **EVERYTHING)(masked(x, mask)))
    written = 0
    for b, (labels, length, score, times) in enumerate(zip(*results, strict=True)):
        used = np.arange(FRAMES) if mask is None else np.flatnonzero(mask[b])
        expected, at, log_p = transducer_oracle.greedy(w, x[b, used].astype("float64"), 2)
        assert labels.tolist() == padded(expected, 2 * FRAMES, 0)
        assert length == len(expected)
        assert score == pytest.approx(log_p, abs=1e-4)
        assert times.tolist() == padded(used[at].tolist() if at else [], 2 * FRAMES, -1)
        written += len(expected)
    assert written > 2


@pytest.mark.torch_backend
@pytest.mark.parametrize("use_mask", [False, True])
def test_an_exhaustive_beam_is_the_sum_over_all_paths(use_mask):
    head, x, mask = head_of(1), frames_of(1), MASK if use_mask else None
    w = transducer_oracle.Weights.of(head)
    with op_by_op():
        beam = TransducerBeam(head, ALL, max_symbols=1, n_best=ALL, **EVERYTHING)
        labels, lengths, scores, times = arrays(beam(masked(x, mask)))
    for b in range(ROWS):
        used = np.arange(FRAMES) if mask is None else np.flatnonzero(mask[b])
        found = transducer_oracle.enumerate_labels(w, x[b, used].astype("float64"), 1)
        best = sorted(found, key=lambda k, found=found: found[k][0], reverse=True)
        for n, each in enumerate(best):
            score, at = found[each]
            assert labels[b, n].tolist() == padded(each, FRAMES, 0)
            assert lengths[b, n] == len(each)
            assert scores[b, n] == pytest.approx(score, abs=1e-4)
            assert times[b, n].tolist() == padded(used[at].tolist() if at else [], FRAMES, -1)
        assert (labels[b, len(best) :] == 0).all()
        assert (scores[b, len(best) :] == np.float32(NEVER)).all()
        assert (times[b, len(best) :] == -1).all()


@pytest.mark.parametrize("width", [1, 3])
def test_a_narrow_beam_is_that_with_dictionaries(width):
    head, x = head_of(2, classes=4), frames_of(2, frames=6)
    w = transducer_oracle.Weights.of(head)
    with op_by_op():
        beam = TransducerBeam(head, width, max_symbols=2, n_best=width, return_scores=True)
        labels, scores = arrays(beam(x))
    for b in range(ROWS):
        expected = transducer_oracle.beam_search(w, x[b].astype("float64"), width, 2)
        for n, (each, score) in enumerate(expected):
            assert labels[b, n].tolist() == padded(each, 12, 0)
            assert scores[b, n] == pytest.approx(score, abs=1e-4)


TEXTS = [[1, 2, 1], [2, 2, 1], [1], [2, 1, 1]]


def n_grams(classes=CLASSES):
    """A model, and its scores of a label after others, or of the end."""
    ngrams = kerasrnn.NGrams.of_sequences(TEXTS, 3)
    return (
        NGramLanguageModel.from_ngrams(ngrams, classes),
        of_ngrams(ngrams.automaton(classes)),
    )


def recurrent():
    """As `n_grams`: the probabilities of the whole model, of all labels at once."""
    start, end = 3, 4
    model = zoo.next_step(zoo.Classes(5), "gru", units=4)
    random = np.random.default_rng(0)
    model.set_weights([random.standard_normal(w.shape) for w in model.weights])
    known = {}

    def score(labels, k):
        if labels not in known:
            p = model(np.array([[start, *labels]]))
            known[labels] = np.log(ops.convert_to_numpy(p)[0, -1])
        return known[labels][end if k is None else k]

    return RecurrentLanguageModel(model.get_layer("decoder"), start, end), score


@pytest.mark.torch_backend
@pytest.mark.parametrize("make", [n_grams, recurrent], ids=["n_grams", "recurrent"])
def test_an_exhaustive_beam_with_a_language_model(make):
    """The sum over all paths of each label sequence, and the scores of its labels and its end."""
    head, x = head_of(1), frames_of(1)
    w = transducer_oracle.Weights.of(head)
    with op_by_op():
        model, score = make()
        beam = TransducerBeam(head, ALL, 1, model, 0.7, 0.4, n_best=ALL, **EVERYTHING)
        labels, lengths, scores, times = arrays(beam(masked(x, MASK)))
        added = of_sequence(score, 0.7, 0.4)
        others = 0
        for b in range(ROWS):
            used = np.flatnonzero(MASK[b])
            paths = transducer_oracle.enumerate_labels(w, x[b, used].astype("float64"), 1)
            found = {each: log_p + added(each) for each, (log_p, _) in paths.items()}
            best = sorted(found, key=found.get, reverse=True)
            others += best != sorted(found, key=lambda k, p=paths: p[k][0], reverse=True)
            for n, each in enumerate(best):
                at = paths[each][1]
                assert labels[b, n].tolist() == padded(each, FRAMES, 0)
                assert lengths[b, n] == len(each)
                assert scores[b, n] == pytest.approx(found[each], abs=1e-4)
                assert times[b, n].tolist() == padded(used[at].tolist() if at else [], FRAMES, -1)
            assert (scores[b, len(best) :] == np.float32(NEVER)).all()
    assert others  # the language model changes the order


@pytest.mark.parametrize("width", [1, 3])
def test_a_narrow_beam_with_a_language_model(width):
    """In chunks, too; and without a language model, but with a bonus."""
    head, x = head_of(2, classes=4), frames_of(2, frames=5)
    w = transducer_oracle.Weights.of(head)
    model, score = n_grams(4)

    def with_model(labels, k):
        return 0.8 * score(labels, k) + 0.3 * (k is not None)

    def of_bonus(labels, k):
        return 0.6 * (k is not None)

    for arguments, added in (((model, 0.8, 0.3), with_model), ((None, 1.0, 0.6), of_bonus)):
        with op_by_op():
            beam = TransducerBeam(head, width, 2, *arguments, n_best=width, return_scores=True)
            state = beam.initial_state(ROWS)
            for start, end in ((0, 2), (2, 5)):
                state = beam.advance(x[:, start:end], state)
            labels, _, scores, _ = arrays(beam.found(state))
        for b in range(ROWS):
            expected = transducer_oracle.beam_search(w, x[b].astype("float64"), width, 2, added)
            for n, (each, total) in enumerate(expected):
                assert labels[b, n].tolist() == padded(each, 10, 0)
                assert scores[b, n] == pytest.approx(total, abs=1e-4)


@pytest.mark.torch_backend
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_chunks_have_the_result_of_all_frames(kind):
    head, x = head_of(3), frames_of(3, frames=7)
    mask = np.random.default_rng(0).random((ROWS, 7)) < 0.8
    with op_by_op():
        if kind == "greedy":
            decoder = TransducerGreedy(head, 3, **EVERYTHING)
        else:
            decoder = TransducerBeam(head, 3, 2, **EVERYTHING)
        whole, state = arrays(decoder(x, mask=mask)), decoder.initial_state(ROWS)
        for start, end in ((0, 1), (1, 5), (5, 7)):
            state = decoder.advance(x[:, start:end], state, mask[:, start:end])
        chunks = arrays(decoder.found(state))
    assert whole[1].sum() > 3
    for a, b in zip(chunks, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.traced
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_a_model_with_a_search_is_saved_with_it(tmp_path, kind):
    """In the graph of `predict`, of an unknown number of frames, like an eager call."""
    head, x = head_of(5), frames_of(5)
    x[0, 2] = 0
    if kind == "greedy":
        decoder, rows = TransducerGreedy(head, 3, **EVERYTHING), ()
    else:
        model = n_grams()[0]
        decoder, rows = TransducerBeam(head, 4, 2, model, n_best=2, **EVERYTHING), (2,)
    encoded = keras.Input((None, FEATURES))
    model = keras.Model(encoded, decoder(keras.layers.Masking()(encoded)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    found = again.predict(x, verbose=0)
    with op_by_op():
        expected = arrays(model(x))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert [y.shape[1:] for y in model.outputs[:2]] == [(*rows, None), rows]


HEAD = head_of()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransducerGreedy(keras.layers.Dense(3)), "head=.*: expected a kerasrnn.Transduc"),
        (lambda: TransducerBeam(HEAD, language_model="x"), "language_model='x': expected a keras"),
        (lambda: TransducerBeam(HEAD, language_weight=-1.0), "language_weight=-1.0: expected"),
        (lambda: TransducerGreedy(HEAD, 0), "max_symbols=0: expected a positive integer"),
        (
            lambda: TransducerGreedy(kerasrnn.Transducer(3, [kerasrnn.GRU(2)])).initial_state(1),
            "is not built; expected a layer that has been called",
        ),
        (lambda: TransducerBeam(HEAD, 0), "width=0: expected"),
        (lambda: TransducerBeam(HEAD, 2, n_best=3), "n_best=3: expected an integer"),
        (lambda: TransducerBeam(HEAD)(frames_of()[:, :0]), "have no steps"),
        (
            lambda: TransducerGreedy(HEAD).found(TransducerGreedy(HEAD).initial_state(1)),
            "state: has read no frames yet; expected a state from advance",
        ),
        (lambda: TransducerBeam(HEAD)(keras.Input((3,))), r"encoded of the shape \(None, 3\)"),
        (lambda: TransducerGreedy(HEAD)(frames_of(), mask=MASK[:1]), "mask has the shape"),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
