"""Logits processors, compared with the same rules in plain Python, over all sequences."""

import itertools

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import decoding
from kerasrnn.decoding import (
    IMPOSSIBLE,
    Beam,
    BeamSearch,
    ForbiddenSymbols,
    ForcedPrefix,
    Greedy,
    MinimumLength,
    NoRepeatNGrams,
    RepetitionPenalty,
    Sample,
    Sampling,
)
from tests import numpy_models
from tests.catalogue import variant_id
from tests.decoding.test_beam import Table
from tests.decoding.test_execution import BATCHES, PREFIX, RULES, searching
from tests.decoding.test_generator import (
    END,
    START,
    contexts,
    log_softmax,
    new_decoder,
)

PROMPTS = [[1, 3, 1], [], [4], [3, 4, 3, 1], [2, 1], [4, 4]]
PROMPT = np.array([prompt + [0] * (4 - len(prompt)) for prompt in PROMPTS])
PROMPT_LENGTHS = np.array([len(prompt) for prompt in PROMPTS])


def scores_by_hand(rules, log_p, prompt, written):
    """The score of each class after the generated symbols."""
    scores, seen = np.array(log_p, "float64"), [*prompt, *written]
    for rule in rules:
        if isinstance(rule, ForbiddenSymbols):
            scores[rule.ids] = -np.inf
        elif isinstance(rule, MinimumLength):
            scores[END] = -np.inf if len(written) < rule.length else scores[END]
        elif isinstance(rule, RepetitionPenalty):
            for symbol in set(seen):
                scores[symbol] *= rule.penalty
        elif isinstance(rule, NoRepeatNGrams):
            grams = {tuple(seen[k : k + rule.n]) for k in range(len(seen) - rule.n + 1)}
            tail = seen[len(seen) - rule.n + 1 :]
            for symbol in range(len(scores)):
                if (*tail, symbol) in grams:
                    scores[symbol] = -np.inf
        elif isinstance(rule, ForcedPrefix) and len(written) < len(rule.ids):
            scores = np.full_like(scores, -np.inf)
            scores[rule.ids[len(written)]] = log_p[rule.ids[len(written)]]
    scores[0] = -np.inf
    if not np.isfinite(scores).any():
        scores[END] = log_p[END]  # nothing else is possible
    return scores


def greedy_by_hand(table, row, rules, prompt):
    written = []
    while len(written) < table.max_lengths[row] and END not in written:
        log_p = log_softmax(table.of(row, [*written, 1])[0])[-1]
        written.append(int(scores_by_hand(rules, log_p, prompt, written).argmax()))
    return written


def best_by_hand(table, row, rules, prompt, n):
    """The `n` best of all sequences, by the sum of their scores."""
    found, open_ = [], [(0.0, [])]
    for length in range(1, table.max_lengths[row] + 1):
        grown = []
        for total, written in open_:
            log_p = log_softmax(table.of(row, [*written, 1])[0])[-1]
            scores = scores_by_hand(rules, log_p, prompt, written)
            grown += [
                (total + scores[symbol], [*written, symbol])
                for symbol in range(table.size)
                if np.isfinite(scores[symbol])
            ]
        at_end = length == table.max_lengths[row]
        found += [(total, written) for total, written in grown if at_end or written[-1] == END]
        open_ = [(total, written) for total, written in grown if written[-1] != END]
    return sorted(found, reverse=True)[:n]


EXAMPLES = [
    [NoRepeatNGrams(1)],
    [NoRepeatNGrams(2), MinimumLength(2)],
    [NoRepeatNGrams(3), RepetitionPenalty(0.3)],
    [RepetitionPenalty(2.5), ForbiddenSymbols([3])],
    [ForbiddenSymbols([1, 4]), ForcedPrefix([4, 3])],
    [
        NoRepeatNGrams(1),
        ForbiddenSymbols([1, END]),
        MinimumLength(9),
    ],  # soon none is left
]


@pytest.mark.parametrize("rules", EXAMPLES, ids=repr)
def test_samplers_and_beams_choose_by_the_scores(rules):
    """With prompts of different lengths; a beam of all hypotheses finds the best sequences."""
    table = Table(5, 4, seed=3)
    policy = Sampling(
        Greedy(),
        5,
        table.max_lengths,
        None,
        4,
        END,
        processors=rules,
        prompt=PROMPT,
        prompt_lengths=PROMPT_LENGTHS,
    )
    found = table.decode(policy, width=1)
    beam = Beam(108, n_best=3)
    search = BeamSearch(
        beam,
        5,
        table.max_lengths,
        4,
        END,
        rules,
        table.positions,
        prompt=np.repeat(PROMPT, 108, axis=0),
        prompt_lengths=np.repeat(PROMPT_LENGTHS, 108),
    )
    best = table.decode(search, width=108)
    for row, prompt in enumerate(PROMPTS):
        written = greedy_by_hand(table, row, rules, prompt)
        assert found.symbols[row].tolist() == written + [0] * (4 - len(written))
        log_p = table.log_probabilities(row, written) if written else []
        np.testing.assert_allclose(found.log_probabilities[row, : len(written)], log_p, atol=1e-5)
        expected = best_by_hand(table, row, rules, prompt, 3)
        assert best.lengths[row].tolist() == [*map(len, (w for _, w in expected))] + [0] * (
            3 - len(expected)
        )
        for n, (total, written) in enumerate(expected):
            assert best.symbols[row, n].tolist() == written + [0] * (4 - len(written))
            np.testing.assert_allclose(best.scores[row, n], total, rtol=1e-5)
            log_p = table.log_probabilities(row, written)
            np.testing.assert_allclose(
                best.log_probabilities[row, n, : len(written)], log_p, atol=1e-5
            )


def test_without_an_end_a_row_stops_when_everything_is_forbidden():
    """None of three symbols may occur twice, so that three of five steps are possible."""
    table = Table(4, 5)
    table.max_lengths[:] = 5
    policy = Sampling(Greedy(), 4, table.max_lengths, None, 5, processors=[NoRepeatNGrams(1)])
    found = table.decode(policy, width=1)
    assert found.lengths.tolist() == [3] * 6
    assert np.sort(found.symbols[:, :3], axis=1).tolist() == [[1, 2, 3]] * 6
    assert not found.symbols[:, 3:].any()
    assert not found.log_probabilities[:, 3:].any()
    beam = BeamSearch(Beam(8, n_best=6), 4, table.max_lengths, 5, None, [NoRepeatNGrams(1)], 4)
    found = table.decode(beam, width=8)
    for row in range(6):
        expected = sorted(
            (
                (table.log_probabilities(row, list(written)).sum(), list(written))
                for written in itertools.permutations([1, 2, 3])
            ),
            reverse=True,
        )
        assert found.symbols[row].tolist() == [[*written, 0, 0] for _, written in expected]
        np.testing.assert_allclose(found.scores[row], [s for s, _ in expected], rtol=1e-5)
        assert found.lengths[row].tolist() == [3] * 6


@pytest.mark.parametrize("temperature", [1.0, 1e30])
def test_forbidden_symbols_are_never_drawn(temperature):
    table = Table(5, 1, rows=2000)
    table.logits[:] = table.logits[0, START]
    noise = np.random.default_rng(0).random((1, 2000)).astype("float32")
    policy = Sampling(
        Sample(temperature),
        5,
        np.ones(2000, "int32"),
        noise,
        1,
        processors=[ForbiddenSymbols([3])],
    )
    drawn = table.decode(policy, width=1).symbols[:, 0]
    p = numpy_models.softmax(table.logits[0, START] / temperature)[[1, 2, 4]]
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    np.testing.assert_allclose(counts[[1, 2, 4]] / 2000, p / p.sum(), atol=0.05)


@keras.saving.register_keras_serializable(package="tests")
class Fusion(decoding.LogitsProcessor):
    """Shallow fusion of a language model: log p + weight * log q, q of another decoder."""

    reads_history = True

    def __init__(self, decoder, weight=0.7):
        self.decoder, self.weight, self.layers = decoder, weight, [decoder]

    def initialize(self, history):
        rows = keras.ops.shape(history.lengths)[0]
        log_q = keras.ops.zeros((rows, history.size), dtype="float32")
        return {"states": self.decoder.initial_states(batch_size=rows), "log_q": log_q}

    def advance(self, history, state):
        previous = keras.ops.where(history.step > 0, history.last, START)
        logits, states = self.decoder.step(previous, state["states"])
        return {"states": states, "log_q": keras.ops.log_softmax(logits, axis=-1)}

    def __call__(self, logits, history, state):
        return logits + self.weight * state["log_q"]

    def get_config(self):
        return {
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "weight": self.weight,
        }

    @classmethod
    def from_config(cls, config):
        decoder = keras.saving.deserialize_keras_object(config["decoder"])
        return cls(decoder, config["weight"])


def test_shallow_fusion(tmp_path):
    """Its states follow the hypotheses, as all sequences show; its weights are saved."""
    decoder = new_decoder(size=4, row="LSTM", seed=2)
    other = new_decoder(size=4, context=None, seed=7)
    beam = Beam(12, n_best=3)
    options = {"max_length": 3, "return_scores": True, "processors": [Fusion(other)]}
    generator = kerasrnn.Generator(decoder, beam, start=START, end=END, **options)
    context = keras.Input((2,))
    model = keras.Model(context, generator(context))
    symbols, scores = map(np.asarray, model(contexts(3)))
    for n in range(3):
        found = []
        for written in itertools.product(range(1, 4), repeat=3):
            length = written.index(END) + 1 if END in written else 3
            if written[length:] != (1,) * (3 - length):
                continue
            written, fed = written[:length], np.array([[START, *written[: length - 1]]])
            total = sum(
                weight * log_softmax(logits)[range(length), written].sum()
                for weight, logits in (
                    (1, numpy_models.decode(decoder, fed, contexts(3)[n : n + 1])[0]),
                    (0.7, numpy_models.decode(other, fed)[0]),
                )
            )
            found.append((total, [*written, *[0] * (3 - length)]))
        expected = sorted(found, reverse=True)[:3]
        assert symbols[n].tolist() == [written for _, written in expected]
        np.testing.assert_allclose(scores[n], [total for total, _ in expected], atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(contexts(3))[1], scores, atol=1e-6)


def test_with_rewards_the_search_goes_on_to_the_maximum_length():
    """The end is likely at first; but the reward of each 1 exceeds its cost."""

    class Bonus(decoding.LogitsProcessor):
        reads_history, may_reward = False, True

        def __call__(self, logits, history, state):
            return logits + keras.ops.where(keras.ops.arange(history.size) == 1, 1.0, 0.0)

    p = np.array([1e-9, 0.5, 0.4, 0.1], "float32")

    def step(previous, states):
        return keras.ops.broadcast_to(np.log(p), (*previous.shape, 4)), states, None

    search = BeamSearch(Beam(2), 4, np.array([5]), 5, END, [Bonus()])
    found = decoding.decode(step, search, np.array([START] * 2), (), 5)
    assert np.asarray(found.symbols).tolist() == [[1] * 5]
    np.testing.assert_allclose(found.scores, [5 * (np.log(0.5) + 1)], atol=1e-5)


def test_a_prefix_is_part_of_what_is_generated():
    """Its forbidden start symbol is included, and its symbols have log-probabilities."""
    generator = searching(None)
    context, prompts, prefixes = BATCHES[0]
    found = generator(context=context, prompt=prompts, prefix=prefixes)
    symbols, lengths, log_probabilities = map(np.asarray, found)
    for n, prefix in enumerate(PREFIX):
        prompt = [symbol for symbol in prompts[n] if symbol]
        rules = [*RULES, MinimumLength(2), ForcedPrefix([s for s in prefix if s])]
        written, log_p = [], []
        while len(written) < 6 and END not in written:
            fed = np.array([[START, *prompt, *written]])
            logits = numpy_models.decode(generator.decoder, fed, context[n : n + 1])[0, -1]
            scores = scores_by_hand(rules, log_softmax(logits), prompt, written)
            written.append(int(scores.argmax()))
            log_p.append(log_softmax(logits)[written[-1]])
        assert symbols[n].tolist() == written + [0] * (6 - len(written))
        assert lengths[n] == len(written)
        np.testing.assert_allclose(log_probabilities[n, : len(written)], log_p, atol=1e-5)
    assert symbols[3].tolist() == [4, END, 0, 0, 0, 0]


@pytest.mark.parametrize("rule", [rule for rules in EXAMPLES[:5] for rule in rules], ids=repr)
def test_configurations(rule):
    config = keras.saving.serialize_keras_object(rule)
    assert config["registered_name"] == f"kerasrnn>{type(rule).__name__}"
    assert repr(keras.saving.deserialize_keras_object(config)) == repr(rule)


def test_impossible_scores_stay_impossible():
    """A penalty below 1 makes repeated symbols more probable, but not forbidden ones."""
    table = Table(4, 3)
    rules = [ForbiddenSymbols([1]), RepetitionPenalty(0.1)]
    policy = Sampling(
        Greedy(),
        4,
        table.max_lengths,
        None,
        3,
        processors=rules,
        prompt=np.ones((6, 1), "int32"),
        prompt_lengths=np.ones(6, "int32"),
    )
    assert 1 not in table.decode(policy, width=1).symbols
    assert IMPOSSIBLE * 0.1 > IMPOSSIBLE / 2  # it would have been possible


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: NoRepeatNGrams(0), "n=0: expected a positive integer"),
        (lambda d: RepetitionPenalty(0), "penalty=0: expected a positive number"),
        (lambda d: RepetitionPenalty(True), "penalty=True: expected a positive number"),
        (lambda d: MinimumLength(-1), "length=-1: expected an integer of at least 0"),
        (lambda d: ForbiddenSymbols(3), "ids=3: expected a list of ids"),
        (lambda d: ForbiddenSymbols([1, 2.5]), r"ids\[1\]=2\.5: expected an integer"),
        (
            lambda d: kerasrnn.Generator(d, processors=[ForbiddenSymbols([6])]),
            r"ids\[0\]=6: expected an integer from 0 to 5",
        ),
        (
            lambda d: kerasrnn.Generator(d, processors=[ForcedPrefix([0])]),
            r"ids\[0\]=0: expected an integer from 1 to 5",
        ),
        (
            lambda d: kerasrnn.Generator(d, processors=[MinimumLength(1)]),
            r"MinimumLength\(length=1\): expected length=0 without an end",
        ),
        (
            lambda d: kerasrnn.Generator(
                d, processors=[ForbiddenSymbols([1, 2, 5]), ForbiddenSymbols([3, 4])]
            ),
            "all 5 symbols are forbidden; expected at least one that is allowed",
        ),
        (
            lambda d: kerasrnn.Generator(
                d, end=2, min_length=1, processors=[ForbiddenSymbols([1, 3, 4, 5])]
            ),
            r"MinimumLength\(length=1\): only the end is allowed",
        ),
        (
            lambda d: kerasrnn.Generator(d, processors=NoRepeatNGrams(2)),
            r"processors=NoRepeatNGrams\(n=2\): expected a list of LogitsProcessor",
        ),
        (
            lambda d: kerasrnn.Generator(d, processors=[Greedy()]),
            r"processors: Greedy\(\): expected a LogitsProcessor",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder("flags"), processors=[NoRepeatNGrams(2)]),
            "flags have no logits to process",
        ),
        (
            lambda d: kerasrnn.Generator(d, start=1)(contexts(), prefix=np.array([1, 2, 3, 4])),
            r"prefix has the shape \(4,\); expected \(batch, length\)",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(new_decoder())
