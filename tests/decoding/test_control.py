"""Constraints, diverse beams and shallow fusion, compared with all sequences in plain Python."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.decoding import (
    IMPOSSIBLE,
    Beam,
    BeamSearch,
    ForbiddenPhrases,
    Greedy,
    LanguageModelFusion,
    NGramLanguageModel,
    RecurrentLanguageModel,
    RequiredPhrases,
    Sampling,
)
from tests.decoding.test_beam import Table, all_sequences, best, length_penalty
from tests.decoding.test_generator import END, START, contexts, new_decoder
from tests.measure import op_by_op

SIZE, LONGEST = 5, 4
ALL_HYPOTHESES = 108
PROMPTS = [[1, 3, 1], [], [4], [3, 4, 3, 1], [1, 1], [4, 4]]
PROMPT = np.array([prompt + [0] * (4 - len(prompt)) for prompt in PROMPTS])
PROMPT_LENGTHS = np.array([len(prompt) for prompt in PROMPTS])


def search(table, beam, rules, prompt=None):
    options = {}
    if prompt is not None:
        options["prompt"] = np.repeat(PROMPT, beam.width, axis=0)
        options["prompt_lengths"] = np.repeat(PROMPT_LENGTHS, beam.width)
    policy = BeamSearch(
        beam,
        table.size,
        table.max_lengths,
        table.max_length,
        END,
        rules,
        table.positions,
        **options,
    )
    return table.decode(policy, beam.width)


def contains(written, phrase):
    return any(list(written[k : k + len(phrase)]) == list(phrase) for k in range(len(written)))


def sequences_of(table, row):
    return list(all_sequences(table.size, table.max_lengths[row]))


def assert_best(found, table, beam, allowed):
    """`allowed(row, written)` says which sequences may be found; the best of them are."""
    for row in range(table.rows):
        expected = best(table, row, beam, [w for w in sequences_of(table, row) if allowed(row, w)])
        n = len(expected)
        written = [
            symbols[:length].tolist()
            for symbols, length in zip(found.symbols[row], found.lengths[row], strict=True)
        ]
        assert written == expected + [[]] * (beam.n_best - n)
        scores = [table.score(row, each, beam) for each in expected]
        np.testing.assert_allclose(found.scores[row][:n], scores, rtol=1e-5)
        assert (found.scores[row][n:] == np.float32(IMPOSSIBLE)).all()


@pytest.mark.parametrize("phrases", [[[3, 4]], [[1, 1], [4], [3, 1, 4]], [[1, END], [3, END]]])
def test_forbidden_phrases(phrases):
    """With prompts, which count."""
    table = Table(SIZE, LONGEST, seed=5)
    beam = Beam(ALL_HYPOTHESES, n_best=4)
    found = search(table, beam, [ForbiddenPhrases(phrases)], prompt=True)

    def allowed(row, written):
        whole = [*PROMPTS[row], *written]
        before = len(PROMPTS[row])
        # A phrase must not end in what was generated.
        return not any(
            whole[k : k + len(phrase)] == phrase
            for phrase in phrases
            for k in range(len(whole))
            if k + len(phrase) > before
        )

    assert_best(found, table, beam, allowed)


@pytest.mark.parametrize(
    "phrases", [[[3]], [[1, 3]], [[4, 1], [1, 3]], [[1, 1], [1, 1]], [[3, 1, 3], [4]], [[1] * 5]]
)
def test_required_phrases(phrases):
    """A beam of all hypotheses finds the best sequences that contain all phrases, and only these:
    phrases that overlap, that are given twice, and that are too long."""
    table = Table(SIZE, LONGEST, seed=6)
    beam = Beam(ALL_HYPOTHESES, 0.6, n_best=3)
    found = search(table, beam, [RequiredPhrases(phrases)])

    def allowed(row, written):
        return all(contains(written, phrase) for phrase in phrases)

    assert_best(found, table, beam, allowed)


def test_a_narrow_beam_finds_required_phrases():
    """However improbable they are: three of five hypotheses would not find them."""
    table = Table(7, 4, rows=8, seed=7)
    table.max_lengths[:] = 4
    table.logits[..., [4, 5]] -= 12
    phrases = [[4, 5], [6]]
    beam = Beam(4)
    plain, found = search(table, beam, []), search(table, beam, [RequiredPhrases(phrases)])
    for row in range(8):
        assert not contains(plain.symbols[row], [4, 5])
        assert all(contains(found.symbols[row], phrase) for phrase in phrases)
        written = found.symbols[row][: found.lengths[row]].tolist()
        np.testing.assert_allclose(found.scores[row], table.score(row, written, beam), rtol=1e-5)


def diverse_by_hand(table, row, beam):
    """As in the docstring of `Beam`: the groups in turn, step by step."""
    groups, each = beam.groups, beam.width // beam.groups
    open_, kept = [[[]] for _ in range(groups)], [[] for _ in range(groups)]
    total = lambda w: table.log_probabilities(row, w).sum()  # noqa: E731
    longest = table.max_lengths[row]
    for length in range(1, longest + 1):
        chosen = np.zeros(table.size)
        for g in range(groups):
            grown = [[*w, k] for w in open_[g] for k in range(1, table.size)]
            grown.sort(key=lambda w: beam.diversity * chosen[w[-1]] - total(w))
            taken = grown[:each]
            for w in taken:
                chosen[w[-1]] += 1
            kept[g] += [w for w in taken if w[-1] == END or length == longest]
            open_[g] = [w for w in taken if w[-1] != END and length < longest]
    score = lambda w: total(w) / length_penalty(w, beam)  # noqa: E731
    best = [w for of in kept for w in sorted(of, key=score, reverse=True)[: beam.n_best // groups]]
    return sorted(best, key=score, reverse=True)


@pytest.mark.parametrize(("groups", "diversity"), [(2, 0.7), (3, 100.0), (3, 0.0)])
def test_diverse_beams(groups, diversity):
    table = Table(SIZE, LONGEST, rows=12, seed=8)
    beam = Beam(6, 0.6, n_best=6, groups=groups, diversity=diversity)
    found = search(table, beam, [])
    for row in range(12):
        expected = diverse_by_hand(table, row, beam)
        written = [
            symbols[:length].tolist()
            for symbols, length in zip(found.symbols[row], found.lengths[row], strict=True)
        ]
        scores = [table.score(row, w, Beam(1, 0.6)) for w in expected]
        np.testing.assert_allclose(found.scores[row][: len(expected)], scores, rtol=1e-5)
        if diversity:  # equal sequences of several groups have any order
            assert written == expected + [[]] * (6 - len(expected))
    alone = search(table, Beam(6, 0.6, groups=groups, diversity=diversity), [])
    np.testing.assert_array_equal(alone.symbols, found.symbols[:, 0])


def language_models():
    ngrams = kerasrnn.NGrams.of_sequences([[1, 3, 4], [3, 1], [4, 4, 1]], order=2)
    decoder = new_decoder(size=7, context=None, seed=9)  # 5 is its start, and 6 its end
    return [
        NGramLanguageModel.from_ngrams(ngrams, classes=5),
        RecurrentLanguageModel(decoder, start=5, end=6),
    ]


class Reader:
    """The scores that a language model gives to what follows some symbols."""

    def __init__(self, model):
        self.model, self.known = model, {(): model.initial(1, SIZE, 0)}

    def __call__(self, ids):
        if ids not in self.known:
            self(ids[:-1])
            _, state = self.known[ids[:-1]]
            last = keras.ops.convert_to_tensor([ids[-1]])
            self.known[ids] = self.model.step(last, state, SIZE, 0)
        return np.asarray(self.known[ids][0])[0]


@op_by_op()
@pytest.mark.parametrize(
    ("k", "prompted"), [(0, False), (1, True)], ids=["n-grams", "recurrent, with a prompt"]
)
def test_language_models(k, prompted):
    """The score of each symbol gains that of the language model, which has read the prompt; the
    score of the end is that of the end in the language model."""
    model = language_models()[k]
    table = Table(SIZE, 3, seed=10)
    rules = [LanguageModelFusion(model, 0.7, classes=SIZE)]
    beam = Beam(36, n_best=3)
    found = search(table, beam, rules, prompt=True if prompted else None)
    reader = Reader(model)

    def fused(row, written):
        total = table.log_probabilities(row, written).sum()
        ids = tuple(PROMPTS[row]) if prompted else ()
        for symbol in written:
            total += 0.7 * reader(ids)[0 if symbol == END else symbol]
            ids = (*ids, symbol)
        return total

    for row in range(table.rows):
        every = sorted(sequences_of(table, row), key=lambda w, row=row: -fused(row, w))[:3]
        for n, written in enumerate(every):
            assert found.symbols[row, n, : len(written)].tolist() == written
            np.testing.assert_allclose(found.scores[row, n], fused(row, written), rtol=1e-5)
            log_p = table.log_probabilities(row, written)
            np.testing.assert_allclose(found.log_probabilities[row, n, : len(log_p)], log_p, 1e-4)


@op_by_op()
def test_required_phrases_of_each_row(tmp_path):
    """In a model, with a language model, saved and loaded: the best of all in a decoder."""
    decoder = new_decoder(size=5, row="GRU", context="every")
    beam = Beam(12, n_best=2)
    fusion = LanguageModelFusion(language_models()[0], 0.5)
    generator = kerasrnn.Generator(
        decoder, beam, 3, START, END, return_scores=True, processors=[fusion]
    )
    required = np.array([[[3, 4], [1, 0]], [[4, 0], [0, 0]], [[0, 0], [0, 0]]], "int32")
    inputs = keras.Input((2,)), keras.Input((2, 2), dtype="int32")
    model = keras.Model(inputs, generator(inputs[0], required=inputs[1]))
    symbols, scores = map(np.asarray, model([contexts(3), required]))
    unrestricted, without = generator(contexts(3), required=np.zeros((3, 1, 1), "int32"))
    for row in range(3):
        phrases = [[n for n in phrase if n] for phrase in required[row].tolist()]
        for written, score in zip(symbols[row], scores[row], strict=True):
            assert score < 0
            assert all(contains(written, phrase) for phrase in phrases if phrase)
    np.testing.assert_array_equal(symbols[2], np.asarray(unrestricted)[2])
    np.testing.assert_allclose(scores[2], np.asarray(without)[2], atol=1e-5)
    assert (scores[:2, 0] < np.asarray(without)[:2, 0]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([contexts(3), required])[0], symbols)


def new_generator(*rules, sampler=None):
    decoder = new_decoder(size=5, context=None)
    return kerasrnn.Generator(decoder, sampler, 3, START, END, processors=list(rules))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ForbiddenPhrases([]), r"phrases=\[\]: expected at least one"),
        (lambda: RequiredPhrases([[3], []]), r"phrases\[1\]=\[\]: expected a list of ids"),
        (lambda: RequiredPhrases("ab"), "phrases='ab': expected a list of phrases"),
        (lambda: RequiredPhrases([[0]]), r"phrases\[0\]\[0\]=0: expected a positive integer"),
        (lambda: new_generator(ForbiddenPhrases([[9]])), r"phrases\[0\]\[0\]=9"),
        (lambda: new_generator(RequiredPhrases([[1, END]]), sampler=Beam(3)), "contains the end"),
        (lambda: new_generator(RequiredPhrases([[1]])), "needs a search; expected a Beam"),
        (
            lambda: Sampling(
                Greedy(), 5, np.array([3]), None, 3, END, "int32", [RequiredPhrases([[1]])]
            ),
            "needs a search; expected a Beam",
        ),
        (
            lambda: search(Table(5, 2), Beam(4), [RequiredPhrases([[1]]), RequiredPhrases([[3]])]),
            "2 of them constrain the search",
        ),
        (
            lambda: search(Table(5, 2), Beam(4, groups=2), [RequiredPhrases([[1]])]),
            "expected groups=1, received 2",
        ),
        (
            lambda: new_generator()(max_lengths=np.array([3]), required=np.ones((1, 1, 1))),
            "required phrases were given; Greedy",
        ),
        (
            lambda: new_generator(sampler=Beam(2))(
                max_lengths=np.array([3]), required=np.ones((1, 1))
            ),
            r"required has the shape \(1, 1\)",
        ),
        (lambda: Beam(5, groups=2), "width=5: expected a multiple of groups=2"),
        (lambda: Beam(6, n_best=3, groups=2), "n_best=3: expected a multiple of groups=2"),
        (lambda: Beam(6, diversity=0.5), "diversity=0.5: expected None with groups=1"),
        (lambda: LanguageModelFusion("lm"), "language_model='lm': expected"),
        (
            lambda: new_generator(LanguageModelFusion(language_models()[0], classes=6)),
            "classes=6: the decoder has 5 classes",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
