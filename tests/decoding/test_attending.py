"""Decoders and generators that attend to a memory, compared with NumPy."""

import copy

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.decoding import Beam
from tests import numpy_models
from tests.catalogue import variant_id
from tests.decoding.test_beam import all_sequences, length_penalty
from tests.decoding.test_generator import END, START, log_softmax
from tests.measure import op_by_op, randomize

IDS = np.array([[1, 4, 2, 6], [1, 5, 3, 3], [2, 2, 1, 4]])
MASK = np.array([[True, True, True, True], [True, False, True, False], [False] * 4])

ATTENDING = [
    (lambda: kerasrnn.BahdanauAttention(3), {"query": "state"}),
    (lambda: kerasrnn.LuongAttention(), {"depth": 2, "residual": True, "tied": True}),
    (lambda: kerasrnn.LuongAttention(), {"input_feeding": False, "depth": 2, "skip": True}),
    (lambda: kerasrnn.CoverageAttention(3), {"context": "both", "attention_units": 7}),
]


def new_decoder(attention=None, depth=1, size=7, context="state", seed=1, **options):
    """Built, with random weights."""
    attention = kerasrnn.BahdanauAttention(3) if attention is None else attention
    layers = [kerasrnn.LSTM(6), kerasrnn.GRU(6)][-depth:]
    decoder = kerasrnn.Decoder(size, layers, context=context, attention=attention, **options)
    decoder.build((None, None), None if context is None else (None, 2), (None, None, 5))
    randomize(decoder, seed)
    return decoder


def tensors(rows=3):
    """A context and a memory."""
    random = np.random.default_rng(3)
    shapes = ((rows, 2), (rows, 4, 5))
    return [random.standard_normal(shape).astype("float32") for shape in shapes]


# The decoder.


def step_by_step(decoder, previous, context, prepared):
    """Logits and weights of every step; the states before the first step and after every step."""
    states = [decoder.initial_states(context, len(previous), prepared)]
    logits, weights = [], []
    for t in range(previous.shape[1]):
        y, after = decoder.step(previous[:, t], states[-1], context, prepared)
        logits.append(np.asarray(y))
        weights.append(np.asarray(decoder.weights_of_step(after)))
        states.append(after)
    return np.stack(logits, axis=1), np.stack(weights, axis=1), states


@op_by_op()
@pytest.mark.torch_backend
@pytest.mark.parametrize(("attention", "options"), ATTENDING, ids=variant_id)
def test_all_steps_at_once_and_one_after_the_other(attention, options):
    """Logits and weights, with a memory that is partly or fully masked."""
    decoder, (c, memory) = new_decoder(attention(), **options), tensors()
    expected, alpha = numpy_models.decode_attending(decoder, IDS, c, memory, MASK)
    logits = decoder(IDS, context=c, memory=memory, memory_mask=MASK)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    stepped, weights, _ = step_by_step(decoder, IDS, c, decoder.prepare_memory(memory, MASK))
    np.testing.assert_allclose(stepped, expected, atol=2e-5)
    np.testing.assert_allclose(weights, alpha, atol=1e-5)
    assert not weights[2].any()


@op_by_op()
@pytest.mark.parametrize("context", [None, "first", "every", "state"])
def test_contexts_and_prompts(context):
    """A prompt, read at once, gives the states of its steps."""
    decoder, (c, memory) = new_decoder(kerasrnn.CoverageAttention(3), context=context), tensors()
    c, prepared = c if context else None, decoder.prepare_memory(memory, MASK)
    given = {"memory": memory, "memory_mask": MASK}
    logits, _, states = step_by_step(decoder, IDS, c, prepared)
    np.testing.assert_allclose(logits, decoder(IDS, context=c, **given), atol=1e-5)
    lengths = np.array([3, 0, 4])
    read = decoder.prefill(IDS, states[0], c, np.arange(4) < lengths[:, None], **given)
    for n, length in enumerate(lengths):
        for a, b in zip(read, states[length], strict=True):
            np.testing.assert_allclose(a[n], b[n], atol=1e-5)


def test_configuration():
    layers = [kerasrnn.LSTM(6, recurrent_dropout=0.1, checkpoint_every=3), kerasrnn.GRU(5)]
    for input_feeding in (True, False):
        decoder = kerasrnn.Decoder(
            7,
            layers,
            context="state",
            attention=kerasrnn.LuongAttention("concat", units=2, window=3),
            attention_units=4,
            input_feeding=input_feeding,
        )
        decoder.build((None, None), (None, 2), (None, None, 5))
        config = keras.saving.serialize_keras_object(decoder)
        config.pop("build_config")
        again = keras.saving.deserialize_keras_object(copy.deepcopy(config))
        assert keras.saving.serialize_keras_object(again) == config
        assert (again.attention.window, again.attention_units) == (3, 4)
        bottom, top = again.stack.layers
        assert [hasattr(layer.cell, "attention") for layer in (bottom, top)] == [
            input_feeding,
            not input_feeding,
        ]
        inside = bottom.cell.cell if input_feeding else bottom.cell
        assert (inside.recurrent_dropout, bottom.checkpoint_every) == (0.1, 3)


# The generator.


def forced(decoder, fed, written, row, given):
    """log p of each class and the weights, at every generated symbol of a row."""
    c, memory, mask = (x[row : row + 1] for x in given)
    previous = np.array([[*fed, *written[:-1]]])
    logits, alpha = numpy_models.decode_attending(decoder, previous, c, memory, mask)
    return log_softmax(logits[0, len(fed) - 1 :]), alpha[0, len(fed) - 1 :]


def score_by_hand(log_p, alpha, written, row, given, beam):
    total = log_p[range(len(written)), written].sum()
    covered = np.clip(alpha.sum(axis=0)[given[2][row]], 1e-9, 1)
    return total / length_penalty(written, beam) + beam.coverage_penalty * np.log(covered).sum()


@op_by_op()
def test_prompts_of_different_lengths():
    """Each row continues its own prompt; the attention weights are returned."""
    decoder, given = new_decoder(), [*tensors(), MASK]
    generator = kerasrnn.Generator(
        decoder, max_length=4, start=START, end=END, return_lengths=True, return_attention=True
    )
    prompts = [[3, 4], [], [5, 3, 6]]
    padded = np.array([prompt + [0] * (3 - len(prompt)) for prompt in prompts])
    c, memory, mask = given
    found = generator(c, prompt=padded, memory=memory, memory_mask=mask)
    for row, (symbols, length, weights) in enumerate(zip(*map(np.asarray, found), strict=True)):
        written = symbols[:length].tolist()
        log_p, alpha = forced(decoder, [START, *prompts[row]], written, row, given)
        assert written == (1 + log_p[:, 1:].argmax(axis=-1)).tolist()
        assert length == 4 or written[-1] == END
        np.testing.assert_allclose(weights[:length], alpha, atol=1e-5)
        assert not weights[length:].any()


@pytest.mark.parametrize(("attention", "options"), ATTENDING, ids=variant_id)
def test_beams_return_the_models_weights(attention, options):
    """The states of the attention follow the hypotheses."""
    decoder, given = new_decoder(attention(), **options), [*tensors(), MASK]
    beam = Beam(4, length_penalty=0.5, coverage_penalty=0.1, n_best=3)
    returned = {"return_lengths": True, "return_scores": True, "return_attention": True}
    generator = kerasrnn.Generator(decoder, beam, 3, START, END, **returned)
    c, memory, mask = given
    found = map(np.asarray, generator(c, memory=memory, memory_mask=mask))
    for row, of_row in enumerate(zip(*found, strict=True)):
        for symbols, length, score, weights in zip(*of_row, strict=True):
            written = symbols[:length].tolist()
            log_p, alpha = forced(decoder, [START], written, row, given)
            expected = score_by_hand(log_p, alpha, written, row, given, beam)
            np.testing.assert_allclose(score, expected, atol=1e-4)
            np.testing.assert_allclose(weights[:length], alpha, atol=1e-5)
            assert not weights[length:].any()


def test_the_coverage_penalty_changes_the_best_sequence():
    """With as many hypotheses as there are sequences, the best of all is found."""
    decoder = new_decoder(kerasrnn.LuongAttention(), size=4, seed=0)
    c, memory, mask = given = [*tensors(), MASK]
    forced_sequences = [
        [
            (written, *forced(decoder, [START], written, row, given))
            for written in all_sequences(4, 2)
        ]
        for row in range(3)
    ]
    best = []
    for penalty in (0.0, 0.5):
        beam = Beam(9, coverage_penalty=penalty)
        generator = kerasrnn.Generator(decoder, beam, 2, START, END)
        found = np.asarray(generator(c, memory=memory, memory_mask=mask))
        for row, sequences in enumerate(forced_sequences):
            expected, *_ = max(
                sequences,
                key=lambda one: score_by_hand(*one[1:], one[0], row, given, beam),
            )
            assert found[row].tolist() == expected + [0] * (2 - len(expected))
        best.append(found)
    assert (best[0][:2] != best[1][:2]).any()
    np.testing.assert_array_equal(best[0][2], best[1][2])  # its memory is fully masked


def gru():
    return [kerasrnn.GRU(3)]


def plain():
    return kerasrnn.Decoder(5, gru())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.Decoder(5, gru(), attention="luong"), "attention='luong': expected an"),
        (
            lambda: kerasrnn.Decoder(5, gru(), input_feeding=False),
            "attention=None: attention_units=None, query='output' and input_feeding=False require",
        ),
        (
            lambda: kerasrnn.Decoder(
                5, gru(), attention=kerasrnn.LuongAttention(), attention_units=0
            ),
            "attention_units=0: expected a positive integer",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), attention=kerasrnn.LuongAttention(), stateful=True),
            "stateful=True: a memory belongs to one batch; expected attention=None",
        ),
        (
            lambda: plain()(IDS, memory=tensors()[1]),
            "a memory was given; expected none with attention=None",
        ),
        (
            lambda: new_decoder()(IDS, context=tensors()[0]),
            r"expects a memory, \(batch, positions, width\); received none",
        ),
        (
            lambda: new_decoder().prepare_memory(np.ones((3, 4))),
            r"expects a memory, \(batch, positions, width\); received the shape \(3, 4\)",
        ),
        (
            lambda: new_decoder().prepare_memory(np.ones((3, 4, 2))),
            r"memory has the shape \(3, 4, 2\); expected \(batch, positions, 5\)",
        ),
        (
            lambda: new_decoder().initial_states(tensors()[0]),
            "prepared=None: expected the result of `prepare_memory`",
        ),
        (
            lambda: kerasrnn.Generator(plain(), return_attention=True),
            "return_attention=True: the decoder has no attention",
        ),
        (
            lambda: kerasrnn.Generator(plain(), Beam(coverage_penalty=0.2)),
            r"coverage_penalty=0\.2: the decoder has no attention",
        ),
        (
            lambda: kerasrnn.Generator(new_decoder(), start=1)(tensors()[0]),
            r"expects a memory, \(batch, positions, width\); received none",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
