"""Beam search, compared with all possible sequences, and with a search in plain Python."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from kerasrnn.decoding import IMPOSSIBLE, Beam, BeamSearch, Greedy, MinimumLength, Sampling, decode
from kerasrnn.decoding.beam import COVERAGE_FLOOR, most_probable
from tests import numpy_models
from tests.catalogue import variant_id
from tests.decoding.test_generator import (
    ALL,
    END,
    START,
    always_ending,
    assert_rows,
    contexts,
    greedy_by_hand,
    log_softmax,
    new_decoder,
)
from tests.measure import op_by_op

# Eager searches are slow; each example has several rows.
few_examples = settings(max_examples=6)

EVERYTHING = {**ALL, "return_scores": True}


class Table:
    """A model that looks up random logits and attention by the row and the symbols so far.

    The states encode these symbols, so that states that do not follow the hypotheses give other
    logits.
    """

    def __init__(self, size, max_length, rows=6, positions=4, seed=0):
        random = np.random.default_rng(seed)
        beginnings = size ** (max_length + 1)
        logits = 1.5 * random.standard_normal((rows, beginnings, size))
        attention = random.dirichlet(np.full(positions, 0.3), (rows, beginnings))
        self.logits, self.attention = logits.astype("float32"), attention.astype("float32")
        self.size, self.max_length, self.rows, self.positions = size, max_length, rows, positions
        self.mask = random.random((rows, positions)) < 0.7
        self.max_lengths = random.integers(0, max_length + 1, rows)
        self.max_lengths[0] = max_length

    def step(self, previous, states):
        code = states["code"] * self.size + previous
        places = states["row"] * self.logits.shape[1] + code
        logits, attention = (
            keras.ops.take(table.reshape(-1, table.shape[-1]), places, axis=0)
            for table in (self.logits, self.attention)
        )
        return logits, {"row": states["row"], "code": code}, attention

    def decode(self, policy, width):
        previous = np.full(self.rows * width, START, "int32")
        row = np.repeat(np.arange(self.rows, dtype="int32"), width)
        states = {"row": row, "code": np.zeros_like(row)}
        found = decode(self.step, policy, previous, states, self.max_length)
        return type(found)(*(None if array is None else np.asarray(array) for array in found))

    def search(self, beam, policy=BeamSearch, min_length=0):
        search = policy(
            beam,
            self.size,
            self.max_lengths,
            self.max_length,
            END,
            [MinimumLength(min_length)],
            self.positions,
            self.mask,
            return_attention=True,
        )
        return self.decode(search, beam.width)

    def of(self, row, written):
        """The logits and the attention of every symbol of a sequence."""
        codes = [START]
        for symbol in written[:-1]:
            codes.append(codes[-1] * self.size + symbol)
        return self.logits[row, codes].astype("float64"), self.attention[row, codes]

    def log_probabilities(self, row, written):
        return log_softmax(self.of(row, written)[0])[range(len(written)), written]

    def score(self, row, written, beam):
        total = self.log_probabilities(row, written).sum()
        covered = self.of(row, written)[1].sum(axis=0)[self.mask[row]]
        penalty = np.log(np.minimum(np.maximum(covered, COVERAGE_FLOOR), 1)).sum()
        return total / length_penalty(written, beam) + beam.coverage_penalty * penalty


def length_penalty(written, beam):
    return (5 + len(written)) ** beam.length_penalty / (5 + 1) ** beam.length_penalty


def all_sequences(size, longest, min_length=0):
    """Sequences that end, and sequences of the maximum length."""
    for length in range(1, longest + 1):
        for written in itertools.product(range(1, size), repeat=length):
            if END in written[:-1] or (END not in written and length < longest):
                continue
            if END not in written or length > min_length:
                yield list(written)


def beam_by_hand(table, row, beam, min_length=0):
    """As in the docstring of `Beam`, without stopping early."""
    hypotheses, kept = [[]], []
    for length in range(1, table.max_lengths[row] + 1):
        grown = [
            [*written, symbol]
            for written in hypotheses
            for symbol in range(1, table.size)
            if symbol != END or length > min_length
        ]
        grown.sort(key=lambda written: -table.log_probabilities(row, written).sum())
        taken = grown[: beam.width]
        hypotheses = [written for written in taken if written[-1] != END]
        kept += [written for written in taken if written[-1] == END]
        if not hypotheses:
            break
    return kept + [written for written in hypotheses if table.max_lengths[row]]


def best(table, row, beam, sequences):
    score = lambda written: table.score(row, written, beam)  # noqa: E731
    return sorted(sequences, key=score, reverse=True)[: beam.n_best]


def assert_found(found, table, beam, expected):
    """Each row has the `expected` sequences, from the best on, and no others."""
    assert found.symbols.shape == (table.rows, beam.n_best, table.max_length)
    for row in range(table.rows):
        for n in range(beam.n_best):
            given = [array[row, n] for array in found]
            symbols, length, log_probabilities, score, attention = given
            if n >= len(expected[row]):
                assert (length, score) == (0, np.float32(IMPOSSIBLE))
                assert not symbols.any()
                assert not log_probabilities.any()
                assert not attention.any()
                continue
            written = expected[row][n]
            assert length == len(written)
            assert symbols.tolist() == written + [0] * (table.max_length - length)
            log_p = table.log_probabilities(row, written)
            np.testing.assert_allclose(log_probabilities[:length], log_p, atol=1e-5)
            np.testing.assert_allclose(score, table.score(row, written, beam), rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(attention[:length], table.of(row, written)[1])
            assert not log_probabilities[length:].any()
            assert not attention[length:].any()


PENALTIES = (st.sampled_from([0.0, 0.6, 1.0, 2.5]), st.sampled_from([0.0, 0.2]))


@few_examples
@given(
    st.sampled_from([(3, 4), (4, 3), (4, 4), (5, 3)]),
    *PENALTIES,
    st.integers(0, 2),
    st.integers(0, 10_000),
)
def test_a_wide_beam_finds_the_best_of_all(shape, alpha, beta, min_length, seed):
    """With a beam of all possible hypotheses, more than there are classes."""
    size, max_length = shape
    table = Table(size, max_length, seed=seed)
    width = (size - 2) ** (max_length - 1) * (size - 1)
    beam = Beam(width, alpha, beta, n_best=min(width, 4))
    expected = [
        best(table, row, beam, all_sequences(size, table.max_lengths[row], min_length))
        for row in range(table.rows)
    ]
    assert_found(table.search(beam, min_length=min_length), table, beam, expected)


@few_examples
@given(st.integers(1, 4), *PENALTIES, st.integers(0, 2), st.integers(0, 10_000))
def test_a_narrow_beam_equals_the_search_in_plain_python(width, alpha, beta, min_length, seed):
    table = Table(5, 4, seed=seed)
    beam = Beam(width, alpha, beta, n_best=width)
    expected = [
        best(table, row, beam, beam_by_hand(table, row, beam, min_length))
        for row in range(table.rows)
    ]
    found = table.search(beam, min_length=min_length)
    assert_found(found, table, beam, expected)
    # With n_best=1, the best is the same.
    alone = table.search(Beam(width, alpha, beta), min_length=min_length)
    for one, several in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one, several[:, 0])


class NeverEarly(BeamSearch):
    def unfinished(self, memory):
        return keras.ops.any(memory.totals > IMPOSSIBLE / 2, axis=1)


@pytest.mark.parametrize("size", [5, 700])
def test_the_most_probable_of_few_and_of_many_classes(size):
    """Also if scores are equal: then those with lower indices."""
    random = np.random.default_rng(size)
    scores = random.integers(-900, 0, (20, 3, size)).astype("float32")
    scores[random.random(scores.shape) < 0.3] = IMPOSSIBLE
    totals = random.integers(-500, 0, (20, 3)).astype("float32")
    totals[::2, 1:] = IMPOSSIBLE
    sums = (totals[..., None] + scores).reshape(20, -1)
    found, indices = map(np.asarray, most_probable(totals, scores))
    np.testing.assert_array_equal(indices, np.argsort(-sums, axis=1, kind="stable")[:, :3])
    np.testing.assert_array_equal(found, np.take_along_axis(sums, indices, axis=1))


@few_examples
@given(st.integers(1, 4), *PENALTIES, st.integers(1, 4), st.integers(0, 10_000))
def test_stopping_early_changes_nothing(width, alpha, beta, n_best, seed):
    table = Table(4, 5, seed=seed)
    beam = Beam(width, alpha, beta, n_best=min(n_best, width))
    for early, late in zip(table.search(beam), table.search(beam, NeverEarly), strict=True):
        np.testing.assert_array_equal(early, late)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("alpha", "n_best", "expected"), [(0.0, None, 1), (0.0, 2, 2), (1.0, 2, 7), (2.0, None, 3)]
)
def test_the_search_stops_when_no_better_sequence_is_possible(alpha, n_best, expected):
    """At every step the end has the probability 0.9, and two other symbols 0.08 and 0.02.

    The finished sequences are log 0.9 = -0.105 after one step and log 0.072 = -2.63 after two, or
    -2.26 with alpha = 1. After t steps the best open hypothesis is t log 0.08 = -2.53 t. At the
    maximum length, M = 40, that is divided by 7.5^alpha: with alpha = 1, -0.34 t, which is below
    -2.26 from t = 7 on; with alpha = 2, -0.045 t, which is below -0.105 from t = 3 on.
    """
    steps = []

    def step(previous, states):
        steps.append(previous)
        p = np.array([1e-9, 0.08, 0.9, 0.02], "float32")
        return keras.ops.broadcast_to(np.log(p), (*previous.shape, 4)), states, None

    beam = Beam(2, alpha, n_best=n_best)
    search = BeamSearch(beam, 4, np.array([40]), 40, END)
    decode(step, search, np.array([START] * 2), (), 40)
    assert len(steps) == expected


def test_penalties_by_hand():
    """The numbers are computed in the comments."""
    p = np.array([1e-9, 0.2, 0.5, 0.3], "float32")
    first, second = [0.9, 0.1, 0.0], [0.2, 0.7, 0.1]

    def step(previous, states):
        attention = keras.ops.where(previous[:, None] == START, np.array(first), np.array(second))
        return keras.ops.broadcast_to(np.log(p), (*previous.shape, 4)), states, attention

    def scores(alpha, beta, mask=None):
        search = BeamSearch(Beam(6, alpha, beta, n_best=6), 4, np.array([2]), 2, END, (), 3, mask)
        found = decode(step, search, np.array([START] * 6), (), 2)
        named = zip(np.asarray(found.symbols)[0].tolist(), np.asarray(found.scores)[0], strict=True)
        return {tuple(symbols): score for symbols, score in named}

    plain = scores(0, 0)
    assert next(iter(plain)) == (2, 0)
    np.testing.assert_allclose(plain[2, 0], -0.693147, atol=1e-5)  # log 0.5
    np.testing.assert_allclose(plain[3, 2], -1.897120, atol=1e-5)  # log 0.3 + log 0.5
    # lp = 7 / 6.
    np.testing.assert_allclose(scores(1, 0)[3, 2], -1.626103, atol=1e-5)
    mask = np.array([[True, True, False]])
    covered = scores(1, 0.5, mask)
    assert next(iter(covered)) == (3, 2)
    # -0.693147 + 0.5 (log 0.9 + log 0.1)
    np.testing.assert_allclose(covered[2, 0], -1.897120, atol=1e-5)
    # -1.626103 + 0.5 (log 1 + log 0.8): 0.9 + 0.2 is more than enough.
    np.testing.assert_allclose(covered[3, 2], -1.737675, atol=1e-5)
    # The third position counts, too: + 0.5 log 1e-9, and + 0.5 log 0.1.
    covered = scores(1, 0.5)
    np.testing.assert_allclose(covered[2, 0], -12.258753, atol=1e-4)
    np.testing.assert_allclose(covered[3, 2], -2.888968, atol=1e-5)


def test_a_sampler_also_records_attention():
    table = Table(5, 4)
    minimum = [MinimumLength(1)]
    policy = Sampling(
        Greedy(), 5, table.max_lengths, None, 4, END, "int32", minimum, table.positions
    )
    found = table.decode(policy, width=1)
    for row, length in enumerate(found.lengths):
        written = found.symbols[row, :length].tolist()
        assert length == table.max_lengths[row] or written[-1] == END
        if not length:
            assert not found.attention[row].any()
            continue
        np.testing.assert_array_equal(found.attention[row, :length], table.of(row, written)[1])
        assert not found.attention[row, length:].any()
    assert found.lengths.min() < found.lengths.max()


# With a decoder.


def all_by_hand(decoder, context, fed, longest, beam):
    """All sequences with their log-probabilities."""
    found = []
    for written in all_sequences(decoder.size, longest):
        logits = numpy_models.decode(decoder, np.array([[*fed, *written[:-1]]]), context)[0]
        log_p = log_softmax(logits[len(fed) - 1 :])[range(len(written)), written]
        found.append((log_p.sum() / length_penalty(written, beam), written, log_p.tolist()))
    return sorted(found, reverse=True)[: beam.n_best]


@op_by_op()
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_with_a_decoder_it_finds_the_best_of_all(alpha):
    """With prompts and maximum lengths that differ between rows."""
    decoder = new_decoder(size=4, row="LSTM", context="every")
    prompts, longest = [[3, 1, 3], [], [1]], [3, 2, 3]
    padded = np.array([prompt + [0] * (3 - len(prompt)) for prompt in prompts])
    beam = Beam(12, alpha, n_best=3)
    generator = kerasrnn.Generator(decoder, beam, 3, START, END, **EVERYTHING)
    results = generator(contexts(3), prompt=padded, max_lengths=np.array(longest))
    *results, scores = map(np.asarray, results)
    expected = [
        all_by_hand(decoder, contexts(3)[n : n + 1], [START, *prompts[n]], longest[n], beam)
        for n in range(3)
    ]
    for n in range(3):
        np.testing.assert_allclose(scores[n], [score for score, *_ in expected[n]], atol=1e-5)
        of_row = [result[n] for result in results]
        assert_rows(of_row, [(written, log_p) for _, written, log_p in expected[n]], 3)


@pytest.mark.parametrize("context", ["first", None])
def test_width_one_is_greedy(context):
    decoder = new_decoder(context=context, row="LSTM", seed=4)
    longest = [9] * 7 + [3, 0]
    c = contexts(9) if context else None
    beam = Beam(1, length_penalty=2.0)
    generator = kerasrnn.Generator(decoder, beam, 9, START, END, **ALL)
    expected = [
        greedy_by_hand(decoder, None if c is None else c[n : n + 1], [START], longest[n])
        for n in range(9)
    ]
    assert_rows(generator(c, max_lengths=np.array(longest)), expected, 9)


def test_scores_are_those_of_teacher_forcing():
    """The sequences differ and come from the best on; the best is better than greedy."""
    decoder = new_decoder(size=9, row="GRU", seed=3)
    c, beam = contexts(5), Beam(6, 0.6, n_best=5)
    generator = kerasrnn.Generator(decoder, beam, 8, START, END, **EVERYTHING)
    symbols, lengths, log_probabilities, scores = map(np.asarray, generator(c))
    flat = symbols.reshape(-1, 8)
    previous = np.insert(flat[:, :-1], 0, START, axis=1)
    logits = np.asarray(decoder(previous, context=np.repeat(c, 5, axis=0)))
    log_p = np.take_along_axis(log_softmax(logits), flat[..., None], axis=-1)[..., 0]
    log_p = np.where(flat > 0, log_p, 0).reshape(symbols.shape)
    np.testing.assert_allclose(log_probabilities, log_p, atol=1e-5)
    np.testing.assert_array_equal(lengths, (symbols > 0).sum(axis=-1))
    penalties = ((5 + lengths) / 6) ** 0.6
    np.testing.assert_allclose(scores, log_p.sum(axis=-1) / penalties, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    for row in symbols:
        assert len({tuple(written) for written in row.tolist()}) == 5
    greedy = kerasrnn.Generator(decoder, None, 8, START, END, **ALL)
    greedy_p = np.asarray(greedy(c)[2]).sum(axis=1)
    plain = kerasrnn.Generator(decoder, Beam(6), 8, START, END, return_scores=True)
    assert (np.asarray(plain(c)[1]) > greedy_p + 1e-3).any()


@pytest.mark.parametrize("sampler", [Greedy(), Beam(3)], ids=repr)
def test_min_length(sampler):
    """The model predicts the end at every step."""
    decoder = new_decoder()
    always_ending(decoder)
    generator = kerasrnn.Generator(decoder, sampler, 5, START, END, min_length=2)
    symbols = np.asarray(generator(contexts(), max_lengths=np.array([5, 3, 2, 0])))
    assert (symbols[:2, 2] == END).all()
    assert (symbols != END)[:, :2].all()
    assert (symbols > 0).sum(axis=1).tolist() == [3, 3, 2, 0]


def test_without_an_end():
    """It finds the best of the sequences of maximum length."""
    decoder = new_decoder(size=3, context=None)
    generator = kerasrnn.Generator(decoder, Beam(8), 3, START, return_scores=True)
    symbols, scores = map(np.asarray, generator(max_lengths=np.array([3, 2])))
    for n, longest in enumerate([3, 2]):
        totals = {}
        for written in itertools.product([1, 2], repeat=longest):
            logits = numpy_models.decode(decoder, np.array([[START, *written[:-1]]]))[0]
            totals[written] = log_softmax(logits)[range(longest), written].sum()
        top = max(totals, key=totals.get)
        assert symbols[n].tolist() == [*top, *[0] * (3 - longest)]
        np.testing.assert_allclose(scores[n], totals[top], atol=1e-5)


def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    generator = kerasrnn.Generator(new_decoder(), Beam(3), 4, START, END, **EVERYTHING)
    symbols, lengths, log_probabilities, scores = map(np.asarray, generator(contexts()))
    np.testing.assert_allclose(scores, log_probabilities.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(lengths, (symbols > 0).sum(axis=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: Beam(0), "width=0: expected a positive integer"),
        (lambda d: Beam(2.0), r"width=2\.0: expected a positive integer"),
        (
            lambda d: Beam(length_penalty=-0.5),
            r"length_penalty=-0\.5: expected a finite number of at least 0",
        ),
        (
            lambda d: Beam(coverage_penalty="1"),
            "coverage_penalty='1': expected a finite number of at least 0",
        ),
        (lambda d: Beam(3, n_best=4), "n_best=4: expected an integer from 1 to 3"),
        (lambda d: Beam(3, n_best=0), "n_best=0: expected an integer from 1 to 3"),
        (
            lambda d: kerasrnn.Generator(new_decoder("flags"), Beam()),
            r"sampler=Beam\(width=5, .*\): expected one of flags",
        ),
        (
            lambda d: kerasrnn.Generator(d, Beam(coverage_penalty=0.2)),
            r"coverage_penalty=0\.2: the decoder has no attention",
        ),
        (
            lambda d: kerasrnn.Generator(d, return_attention=True),
            "return_attention=True: the decoder has no attention",
        ),
        (
            lambda d: kerasrnn.Generator(d, return_scores=True),
            r"return_scores=True: Greedy\(\) computes no scores; expected a Beam",
        ),
        (
            lambda d: kerasrnn.Generator(d, max_length=4, end=2, min_length=5),
            "min_length=5: expected an integer from 0 to max_length, 4",
        ),
        (
            lambda d: kerasrnn.Generator(d, end=2, min_length=-1),
            "min_length=-1: expected an integer from 0 to max_length, 100",
        ),
        (
            lambda d: kerasrnn.Generator(d, min_length=1),
            "min_length=1: expected 0 without an end",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder(size=2), end=1, min_length=1),
            r"MinimumLength\(length=1\): only the end is allowed",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(new_decoder())
