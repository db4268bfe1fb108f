"""`docs/from_addons.md`: its tables are complete, their names exist, and equal numbers are equal.

TensorFlow Addons does not run beside Keras 3: its equations are written here in NumPy, for one row
of a batch at a time, with weights in its layout.
"""

import doctest
import functools
import itertools
import operator
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
import kerasrnn.attention.attention
from kerasrnn.decoding import Beam, BeamSearch, Greedy, decode
from tests.measure import op_by_op
from tests.oracles.activations import sigmoid

pytestmark = pytest.mark.tensorflow

PAGE = Path(__file__).parents[2] / "docs" / "from_addons.md"

# https://www.tensorflow.org/addons/api_docs/python/tfa
NAMES = {
    "tfa.rnn": "ESNCell LayerNormLSTMCell LayerNormSimpleRNNCell NASCell PeepholeLSTMCell",
    "tfa.seq2seq": """
        AttentionMechanism AttentionWrapper AttentionWrapperState BahdanauAttention
        BahdanauMonotonicAttention BaseDecoder BasicDecoder BasicDecoderOutput BeamSearchDecoder
        BeamSearchDecoderOutput BeamSearchDecoderState CustomSampler Decoder
        FinalBeamSearchDecoderOutput GreedyEmbeddingSampler InferenceSampler LuongAttention
        LuongMonotonicAttention SampleEmbeddingSampler Sampler ScheduledEmbeddingTrainingSampler
        ScheduledOutputTrainingSampler SequenceLoss TrainingSampler dynamic_decode gather_tree
        gather_tree_from_array hardmax monotonic_attention safe_cumprod sequence_loss tile_batch
    """,
    "tfa.text": """
        CRFModelWrapper CrfDecodeForwardRnnCell crf_binary_score crf_constrained_decode crf_decode
        crf_decode_backward crf_decode_forward crf_filtered_inputs crf_forward crf_log_likelihood
        crf_log_norm crf_multitag_sequence_score crf_sequence_score crf_unary_score parse_time
        skip_gram_sample skip_gram_sample_with_text_vocab viterbi_decode
    """,
}

random = np.random.default_rng(0)
covered = set()


def covers(*names):
    """What a test compares: the rows of the tables that say "equal"."""
    covered.update(names)
    return lambda test: test


@functools.cache
def tables():
    """`{module: [(name, what stands for it, numbers)]}`."""
    found = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `tfa."):
            rows = found[cells[0].strip("`")] = []
        elif line.startswith("| `"):
            rows.append((cells[0].strip("`"), *cells[1:]))
    return found


@functools.cache
def examples():
    """The names that the examples of the page define."""
    test = doctest.DocTestParser().get_doctest(PAGE.read_text("utf-8"), {}, "page", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, clear_globs=False)
    return test.globs


def normal(*shape):
    return random.standard_normal(shape).astype("float32")


def normalized(v, epsilon):
    return (v - v.mean()) / np.sqrt(v.var() + epsilon)


def softmax(e):
    e = np.exp(e - e.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_tables_are_complete_and_name_what_exists():
    assert {module: [row[0] for row in rows] for module, rows in tables().items()} == {
        module: names.split() for module, names in NAMES.items()
    }
    equal = set()
    for rows in tables().values():
        for name, here, numbers in rows:
            if here != "none":
                path = here.strip("`")
                root = keras if path.startswith("keras.") else kerasrnn
                assert operator.attrgetter(path.removeprefix("keras."))(root) is not None
            if re.match(r"equal\b|.*below\]\(#(two-cells|skip-grams)\) is equal", numbers):
                equal.add(name)
    assert equal == covered


# tfa.rnn. A cell computes two steps from random states.

UNITS, FEATURES = 4, 3


def after_two_steps(cell, step, states=("h",)):
    """Compare a cell with a function of `(x, states, weights by name)`, row by row."""
    cell.build((None, FEATURES))
    cell.set_weights([0.5 * normal(*w.shape) for w in cell.get_weights()])
    weights = {w.name: ops.convert_to_numpy(w) for w in cell.weights}
    x, before = normal(2, 2, FEATURES), [normal(2, UNITS) for _ in states]
    found = before
    for t in range(2):
        y, found = cell(x[:, t], found)
    for row in range(2):
        expected = [state[row] for state in before]
        for t in range(2):
            expected = step(x[row, t], expected, weights)
        np.testing.assert_allclose(y[row], expected[0], atol=1e-5)
        for state, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(state[row], value, atol=1e-5)


@covers("ESNCell")
def test_echo_state():
    def step(x, states, w):
        both = np.concatenate([w["kernel"], w["recurrent_kernel"]])
        new = np.tanh(np.concatenate([x, states[0]]) @ both + w["bias"])
        return [(1 - 0.3) * states[0] + 0.3 * new]

    after_two_steps(kerasrnn.EchoStateCell(UNITS, leak=0.3), step)


@covers("PeepholeLSTMCell")
def test_peephole_lstm():
    def step(x, states, w):
        h, c = states
        i, f, g, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4)
        of_input, of_forget, of_output = w["peephole_kernel"]
        i, f = sigmoid(i + of_input * c), sigmoid(f + of_forget * c)
        c = f * c + i * np.tanh(g)
        return [sigmoid(o + of_output * c) * np.tanh(c), c]

    after_two_steps(kerasrnn.PeepholeLSTMCell(UNITS), step, ("h", "c"))


@covers("NASCell")
def test_nas():
    def step(x, states, w):
        m, c = states
        a = np.split(x @ w["kernel"], 8)
        b = np.split(m @ w["recurrent_kernel"], 8)
        kinds = (sigmoid, "relu", sigmoid, "relu", np.tanh, sigmoid, np.tanh, sigmoid)
        layer = []
        for n, (p, q, kind) in enumerate(zip(a, b, kinds, strict=True)):
            both = p * q if n == 3 else p + q
            layer.append(np.maximum(both, 0) if kind == "relu" else kind(both))
        second = [
            np.tanh(layer[0] * layer[1]),
            np.tanh(layer[2] + layer[3]),
            np.tanh(layer[4] * layer[5]),
            sigmoid(layer[6] + layer[7]),
        ]
        c = np.tanh(second[0] + c) * second[1]
        return [np.tanh(c * np.tanh(second[2] + second[3])), c]

    after_two_steps(kerasrnn.NASCell(UNITS, use_bias=False), step, ("h", "c"))


@covers("LayerNormLSTMCell")
def test_layer_normalized_lstm():
    """The shifts of both norms there are parts of the bias here."""

    def step(x, states, w):
        h, c = states
        z = w["kernel_gamma"] * normalized(x @ w["kernel"], 1e-3) + w["bias"] / 2
        z += w["recurrent_gamma"] * normalized(h @ w["recurrent_kernel"], 1e-3) + w["bias"] / 2
        i, f, g, o = np.split(z, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        c = w["state_gamma"] * normalized(c, 1e-3) + w["state_beta"]
        return [sigmoid(o) * np.tanh(c), c]

    after_two_steps(examples()["NormalizedStateLSTMCell"](UNITS), step, ("h", "c"))
    with pytest.raises(AssertionError):  # of the class itself the table says that it differs
        after_two_steps(kerasrnn.LayerNormLSTMCell(UNITS), step, ("h", "c"))


@covers("LayerNormSimpleRNNCell")
def test_layer_normalized_simple_rnn():
    def step(x, states, w):
        net = x @ w["kernel"] + states[0] @ w["recurrent_kernel"]
        return [np.tanh(w["gamma"] * normalized(net, 1e-5) + w["beta"])]

    after_two_steps(examples()["LayerNormSimpleRNNCell"](UNITS, use_bias=False), step)


# tfa.seq2seq.


def attention_of(attention, query, memory, lengths):
    """The layer's alignments, with random weights, and those weights by name."""
    mask = np.arange(memory.shape[1]) < np.array(lengths)[:, None]
    attention.build(query.shape, memory.shape)
    attention.set_weights([normal(*w.shape) for w in attention.get_weights()])
    weights = {w.name: ops.convert_to_numpy(w) for w in attention.weights}
    context, alignments = (ops.convert_to_numpy(x) for x in attention(query, memory, None, mask))
    np.testing.assert_allclose(
        context, np.einsum("...p,...pf->...f", alignments, memory), atol=1e-5
    )
    return alignments, weights


def additive(query, memory, w):
    """`_bahdanau_score` with `normalize=True`."""
    v = w["attention_g"] * w["attention_v"] / np.sqrt(np.sum(w["attention_v"] ** 2))
    inner = memory @ w["key_kernel"] + query @ w["query_kernel"] + w["attention_bias"]
    return np.tanh(inner) @ v


def recursive(p, before):
    """`monotonic_attention(mode="recursive")`."""
    q, found = 0.0, []
    for j in range(len(p)):
        q = (1 - p[j - 1] if j else 1.0) * q + before[j]
        found.append(p[j] * q)
    return np.array(found)


@covers("BahdanauAttention", "LuongAttention")
def test_attention():
    query, memory, lengths = normal(2, 5), normal(2, 6, 3), (6, 4)
    layer = kerasrnn.BahdanauAttention(4, normalize=True, use_bias=True)
    found, w = attention_of(layer, query, memory, lengths)
    for row, n in enumerate(lengths):
        expected = softmax(additive(query[row], memory[row, :n], w))
        np.testing.assert_allclose(found[row], [*expected, *[0] * (6 - n)], atol=1e-5)
    layer = kerasrnn.LuongAttention("general")
    found, w = attention_of(layer, query, memory, lengths)
    scale, memory_layer = 2.5, w["key_kernel"] / 2.5
    for row, n in enumerate(lengths):
        expected = softmax(scale * (memory[row, :n] @ memory_layer @ query[row]))
        np.testing.assert_allclose(found[row], [*expected, *[0] * (6 - n)], atol=1e-5)


@covers("BahdanauMonotonicAttention", "LuongMonotonicAttention", "monotonic_attention")
def test_monotonic_attention():
    """Two steps, soft and hard."""
    queries, memory = normal(1, 2, 5), normal(1, 6, 3)
    for attention, score in (
        (lambda: kerasrnn.BahdanauAttention(4, normalize=True, use_bias=True), additive),
        (
            lambda: kerasrnn.LuongAttention("general"),
            lambda query, memory, w: memory @ w["key_kernel"] @ query,
        ),
    ):
        for hard in (False, True):
            layer = kerasrnn.MonotonicAttention(attention(), hard=hard)
            found, w = attention_of(layer, queries, memory, (6,))
            before = np.eye(6)[0]
            for t in range(2):
                scores = score(queries[0, t], memory[0], w) + w["monotonic_bias"]
                if hard:
                    p = (scores > 0) * np.cumsum(before)
                    before = p * np.concatenate([[1], np.cumprod(1 - p)[:-1]])
                else:
                    before = recursive(sigmoid(scores), before)
                np.testing.assert_allclose(found[0, t], before, atol=1e-5)


@covers("AttentionWrapper")
def test_attention_wrapper():
    """A cell reads the input and the previous attention; its output is the query."""
    cell = kerasrnn.AttentionCell(
        kerasrnn.SimpleRNNCell(UNITS), kerasrnn.LuongAttention("general"), units=5, activation=None
    )
    layer = kerasrnn.RNN(cell, return_sequences=True)
    x, memory = normal(1, 3, FEATURES), normal(1, 6, 2)
    layer(x, memory=memory)
    layer.set_weights([0.5 * normal(*w.shape) for w in layer.get_weights()])
    w = {weight.name: ops.convert_to_numpy(weight) for weight in layer.weights}
    kernel = np.concatenate([w["kernel"], w["feedback_kernel"]])
    attention_layer = np.concatenate([w["output_kernel"][2:], w["output_kernel"][:2]])
    h, attention, expected = np.zeros(UNITS), np.zeros(5), []
    for x_t in x[0]:
        inputs = np.concatenate([x_t, attention])
        h = np.tanh(inputs @ kernel + h @ w["recurrent_kernel"] + w["bias"])
        context = softmax(memory[0] @ w["key_kernel"] @ h) @ memory[0]
        attention = np.concatenate([h, context]) @ attention_layer
        expected.append(attention)
    with op_by_op():
        np.testing.assert_allclose(layer(x, memory=memory)[0], expected, atol=1e-5)


def beams_of_addons(log_p, start, end, width, steps):
    """`BeamSearchDecoder` without penalties, on a table of log-probabilities.

    Ended sequences stay in the beam, and continue with the end only.
    """
    beams = [([], 0.0)]
    for _ in range(steps):
        extended = []
        for symbols, total in beams:
            if symbols and symbols[-1] == end:
                extended.append((symbols, total))
            else:
                before = symbols[-1] if symbols else start
                extended += [([*symbols, k], total + p) for k, p in enumerate(log_p[before])]
        beams = sorted(extended, key=lambda beam: beam[1], reverse=True)[:width]
    return beams


@covers("BeamSearchDecoder", "GreedyEmbeddingSampler")
def test_beams_and_the_greedy_choice():
    logits = normal(5, 5) * 2
    logits[:, 0] = -50  # padding is never generated
    log_p = np.log(softmax(logits))

    def step(previous, states):
        return ops.take(ops.convert_to_tensor(logits), previous, axis=0), states, None

    steps, start = 3, np.array([1], "int32")
    expected = beams_of_addons(log_p, 1, 2, 100, steps)
    for width, n_best in ((60, 5), (1, 1)):
        search = BeamSearch(Beam(width, n_best=n_best), 5, np.array([steps]), steps, 2)
        with op_by_op():
            found = decode(step, search, np.repeat(start, width), (), steps)
        best = expected if width > 1 else beams_of_addons(log_p, 1, 2, 1, steps)
        for n, (symbols, total) in enumerate(best[:n_best]):
            ids = ops.convert_to_numpy(found.symbols)[0, n]
            assert ids[: len(symbols)].tolist() == symbols
            np.testing.assert_allclose(found.scores[0, n], total, atol=1e-5)
    np.testing.assert_array_equal(Greedy()(logits), logits.argmax(axis=-1))


@covers("SequenceLoss", "sequence_loss")
def test_sequence_loss():
    """All reductions: by weights, and by the number of weights that are not zero."""
    logits, targets = normal(3, 4, 5), random.integers(0, 5, (3, 4))
    weights = (np.arange(4) < np.array([[4], [2], [1]])).astype("float32")
    crossent = -np.log(np.take_along_axis(softmax(logits), targets[..., None], -1))[..., 0]
    total = (crossent * weights).sum() / weights.sum()
    assert np.count_nonzero(weights) == weights.sum()
    loss = kerasrnn.losses.SequenceCrossentropy(from_logits=True)
    np.testing.assert_allclose(loss(targets, logits, weights), total, rtol=1e-5)
    weights *= normal(3, 4) ** 2
    of_tokens = kerasrnn.losses.sequence_crossentropy(targets, logits, from_logits=True)
    np.testing.assert_allclose(of_tokens, crossent, rtol=1e-5)
    total = (crossent * weights).sum() / weights.sum()
    np.testing.assert_allclose(loss(targets, logits, weights), total, rtol=1e-5)


@covers("hardmax", "safe_cumprod", "tile_batch")
def test_small_functions():
    x = np.array([[0.2, 0.9, 0.1], [0.0, 0.3, 0.5]], "float32")
    np.testing.assert_array_equal(
        ops.one_hot(ops.argmax(x, axis=-1), x.shape[-1]), [[0, 1, 0], [0, 0, 1]]
    )
    tiny = float(np.finfo("float32").tiny)
    products = ops.exp(ops.cumsum(ops.log(ops.clip(x, tiny, 1)), axis=1))
    np.testing.assert_allclose(products, np.cumprod(x, axis=1), rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(ops.repeat(x, 2, axis=0), x[[0, 0, 1, 1]])


# tfa.text.


@covers(
    "crf_binary_score",
    "crf_constrained_decode",
    "crf_decode",
    "crf_filtered_inputs",
    "crf_log_likelihood",
    "crf_log_norm",
    "crf_multitag_sequence_score",
    "crf_sequence_score",
    "crf_unary_score",
    "viterbi_decode",
)
def test_conditional_random_field():
    """With the forward algorithm and the trellis of TensorFlow Addons, row by row."""
    x, transitions, lengths = normal(3, 5, 4), normal(4, 4), (5, 3, 1)
    y, bitmap = random.integers(0, 4, (3, 5)), random.random((3, 5, 4)) < 0.7
    bitmap[..., 0] = True
    crf = kerasrnn.CRF(4)
    crf.build(x.shape)
    crf.transitions.assign(transitions)
    mask = np.arange(5) < np.array(lengths)[:, None]

    def log_norm(x):
        alphas = x[0]
        for row in x[1:]:
            alphas = row + np.logaddexp.reduce(alphas[:, None] + transitions, axis=0)
        return np.logaddexp.reduce(alphas)

    def viterbi(score):
        trellis, pointers = [score[0]], []
        for row in score[1:]:
            v = trellis[-1][:, None] + transitions
            trellis.append(row + v.max(axis=0))
            pointers.append(v.argmax(axis=0))
        tags = [trellis[-1].argmax()]
        for pointer in reversed(pointers):
            tags.append(pointer[tags[-1]])
        return tags[::-1], trellis[-1].max()

    filtered = ops.where(bitmap, x, -np.inf)
    with op_by_op():
        likelihood = crf.log_likelihood(x, y, mask)
        norm, of_bitmap = crf.log_partition(x, mask), crf.log_partition(filtered, mask)
        binary = crf.log_likelihood(0 * x, y, mask) + crf.log_partition(0 * x, mask)
        decoded, constrained = crf.decode(x, mask), crf.decode(filtered, mask)
    of_tags = ops.take_along_axis(x, ops.expand_dims(y, 2), axis=2)[:, :, 0]
    unary = ops.sum(of_tags * ops.cast(mask, "float32"), axis=1)
    for row, n in enumerate(lengths):
        scores, tags = x[row, :n], y[row, :n]
        of_steps = sum(scores[t, k] for t, k in enumerate(tags))
        of_pairs = sum(transitions[pair] for pair in itertools.pairwise(tags))
        few = np.where(bitmap[row, :n], scores, -np.inf)
        for found, expected in (
            (unary, of_steps),
            (binary, of_pairs),
            (likelihood + norm, of_steps + of_pairs),
            (norm, log_norm(scores)),
            (likelihood, of_steps + of_pairs - log_norm(scores)),
            (of_bitmap, log_norm(few)),
        ):
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
        for (found, best), expected in ((decoded, viterbi(scores)), (constrained, viterbi(few))):
            assert ops.convert_to_numpy(found)[row, :n].tolist() == expected[0]
            np.testing.assert_allclose(best[row], expected[1], atol=1e-5)


@covers("skip_gram_sample")
def test_skip_grams():
    """As its test has them: min_skips=2, max_skips=2."""
    pairs = examples()["skip_grams"](["the", "quick", "brown"], 2)
    tokens, labels = ["the", "the", "quick", "quick", "brown", "brown"], []
    for token in ("the", "quick", "brown"):
        labels += [other for other in ("the", "quick", "brown") if other != token]
    assert pairs == list(zip(tokens, labels, strict=True))
