"""Models a second time, in NumPy: their weights, the oracles' equations, plain loops."""

from collections.abc import Sequence

import keras
import numpy as np

import kerasrnn
from tests.catalogue import ROWS
from tests.oracles import attention, loop

ROW_OF = {row.cell: row for row in ROWS}


def weights_of(layer: keras.layers.Layer) -> dict[str, np.ndarray]:
    """By name."""
    return {w.name: np.asarray(w.value, "float64") for w in layer.weights}


def dense(layer: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """Without its activation."""
    weights = weights_of(layer)
    return x @ weights["kernel"] + weights.get("bias", 0.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


ACTIVATIONS = {"classes": softmax, "flags": sigmoid, "values": lambda x: x}


def run(
    layer: kerasrnn.RNN | kerasrnn.Bidirectional | kerasrnn.StackedRNN,
    x: np.ndarray,
    mask: np.ndarray | None = None,
    states: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Every step's output, the last output, and the final states, of one layer or a stack."""
    if isinstance(layer, kerasrnn.StackedRNN):
        return _run_stack(layer, x, mask, states)
    if isinstance(layer, kerasrnn.Bidirectional):
        assert states is None
        forward, h, finals = _run_direction(layer.forward_layer, x, mask)
        backward, g, more = _run_direction(layer.backward_layer, x, mask)
        merged = np.concatenate([forward, backward[:, ::-1]], axis=-1)
        if mask is not None:
            merged = np.where(mask[..., None], merged, 0)
        return merged, np.concatenate([h, g], axis=-1), finals + more
    return _run_direction(layer, x, mask, states)


def _run_direction(layer, x, mask, states=None):
    cell = layer.cell
    row = ROW_OF[type(cell)]
    if states is None:
        states = [np.zeros((len(x), *shape)) for shape in cell.state_shapes]
    options = {name: getattr(cell, name) for name in row.oracle_options}
    return loop.run(
        row.oracle.step,
        x,
        states,
        weights_of(cell),
        mask=mask,
        go_backwards=layer.go_backwards,
        **options,
    )


def _run_stack(stack, x, mask, states):
    finals, states = [], list(states or [])
    for n, layer in enumerate(stack.layers):
        size = len(layer.state_size)
        of_layer, states = states[:size] or None, states[size:]
        outputs, last, more = run(layer, x, mask, of_layer)
        finals += more
        if stack.residual and n > 0:
            last = last + x[:, -1] if mask is None else None  # the tests need no more
            outputs = outputs + x
        x = outputs
    return x, last, finals


def with_feedback(
    x: np.ndarray, weights: dict[str, np.ndarray], extra: np.ndarray | float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The arguments of an oracle's step of a single row, whose input part gains `extra`.

    It is the row of the kernel for one more feature, which is 1: the oracle needs to know nothing
    of it. If the input part is normalized, it is a share of the bias.
    """
    if "kernel_gamma" in weights:
        return x, {**weights, "bias": weights["bias"] + extra}
    kernel = weights["kernel"]
    kernel = np.concatenate([kernel, np.broadcast_to(extra, (1, kernel.shape[1]))])
    return np.append(x, [[1.0]], axis=1), {**weights, "kernel": kernel}


def run_feedback(
    layer: kerasrnn.RNN,
    x: np.ndarray,
    mask: np.ndarray | None = None,
    weights: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Every step's output of a layer of a `FeedbackCell`, row by row."""
    outer, inner = layer.cell, layer.cell.cell
    row, weights = ROW_OF[type(inner)], weights or weights_of(outer)
    activation = {"softmax": softmax, "sigmoid": sigmoid, "linear": lambda v: v}
    activation = activation[outer.activation.__name__]
    options = {name: getattr(inner, name) for name in row.oracle_options}
    rows = []
    for n, steps in enumerate(x):
        states = [np.zeros((1, inner.units)) for _ in inner.state_names]
        y = said = np.zeros((1, outer.units))  # y_{t-1}, and the output, which zeros precede
        outputs = []
        for t, x_t in enumerate(steps):
            if mask is None or mask[n, t]:
                given = with_feedback(x_t[None], weights, (y @ weights["feedback_kernel"])[0])
                h, states = row.oracle.step(given[0], states, given[1], **options)
                y = h @ weights["output_kernel"] + weights.get("output_bias", 0.0)
                y = said = activation(y)
            outputs.append(said[0])
        rows.append(outputs)
    return np.array(rows)


SCORES = {
    "dot": attention.luong_dot,
    "scaled_dot": attention.luong_scaled_dot,
    "general": attention.luong_general,
    "concat": attention.luong_concat,
}


def attend(
    layer: keras.layers.Layer,
    s: np.ndarray,
    keys: np.ndarray,
    used: np.ndarray,
    states: Sequence[np.ndarray],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The context and the states, the weights first, of one query to the positions of one row."""
    before, new = states[0], []
    scorer = layer.attention if isinstance(layer, kerasrnn.MonotonicAttention) else layer
    if isinstance(scorer, kerasrnn.LuongAttention):
        scores = SCORES[scorer.score](s, keys, weights)
    elif isinstance(scorer, kerasrnn.LocationSensitiveAttention):
        scores = attention.location_sensitive(s, keys, states[-1], weights)
    elif isinstance(scorer, kerasrnn.CoverageAttention):
        scores = attention.coverage(s, keys, states[1], weights)
    else:
        scores = attention.bahdanau(s, keys, weights)
    if isinstance(layer, kerasrnn.MonotonicAttention):
        p = sigmoid(scores + weights["monotonic_bias"]) * used
        align = attention.monotonic_hard if layer.hard else attention.monotonic_soft
        alpha = align(p, before)
    elif getattr(layer, "window", None) is not None:
        alpha = attention.local_p(s, scores, used, layer.window, weights, layer.normalization)
    else:
        alpha = attention.NORMALIZATIONS[layer.normalization](scores, used)
    if layer.state_names:
        new = [states[1] + alpha]
    return attention.context(alpha, keys), [alpha, *new]


def attention_begins(layer: keras.layers.Layer, used: np.ndarray) -> list[np.ndarray]:
    """The states before the first step, of one row: monotonic attention stands at its start."""
    begun = np.zeros((1 + len(layer.state_names), len(used)))
    if isinstance(layer, kerasrnn.MonotonicAttention) and used.any():
        begun[0, np.argmax(used)] = 1
    return list(begun)


def run_attending(
    layer: kerasrnn.RNN,
    x: np.ndarray,
    memory: np.ndarray,
    mask: np.ndarray | None = None,
    memory_mask: np.ndarray | None = None,
    weights: dict[str, np.ndarray] | None = None,
    states: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Every step's output and weights of a layer of an `AttentionCell`, row by row."""
    outer, inner = layer.cell, layer.cell.cell
    row, weights = ROW_OF[type(inner)], weights or weights_of(outer)
    options = {name: getattr(inner, name) for name in row.oracle_options}
    outputs, alphas = [], []
    for n, steps in enumerate(x):
        used = np.ones(len(memory[n]), bool) if memory_mask is None else memory_mask[n]
        if states is None:
            own = [np.zeros((1, inner.units)) for _ in inner.state_names]
        else:
            own = [state[n : n + 1] for state in states]
        of_attention = attention_begins(outer.attention, used)
        fed = 0.0
        said = np.zeros(outer.output_size)
        outputs.append([])
        alphas.append([])
        for t, x_t in enumerate(steps):
            if mask is None or mask[n, t]:
                if outer.query == "state":
                    c, of_attention = attend(
                        outer.attention, own[0][0], memory[n], used, of_attention, weights
                    )
                    fed = c
                given = x_t[None], weights
                if outer.input_feeding and np.ndim(fed):
                    given = with_feedback(*given, fed @ weights["feedback_kernel"])
                _, own = row.oracle.step(given[0], own, given[1], **options)
                if outer.query == "output":
                    c, of_attention = attend(
                        outer.attention, own[0][0], memory[n], used, of_attention, weights
                    )
                    fed = c
                said = np.concatenate([c, own[0][0]])
                if outer.projected:
                    said = np.tanh(said @ weights["output_kernel"])
                    fed = said if outer.query == "output" else c
            outputs[-1].append(said)
            alphas[-1].append(of_attention[0])
    return np.array(outputs), np.array(alphas)


def decode(
    decoder: kerasrnn.Decoder, previous: np.ndarray, context: np.ndarray | None = None
) -> np.ndarray:
    """The logits of every step of rows without padding."""
    if decoder.kind == "classes":
        table = np.asarray(decoder.embedding.embeddings, "float64")
        x = table[previous]
    else:
        x = previous if decoder.embedding is None else dense(decoder.embedding, previous)
    states = None
    if decoder.context in ("state", "both"):
        states, start = [], 0
        flat = np.tanh(dense(decoder.into_state, context))
        for (size,) in decoder.state_shapes:
            states.append(flat[:, start : start + size])
            start += size
    if decoder.context in ("every", "both"):
        copies = np.stack([context] * x.shape[1], axis=1)
        x = np.concatenate([x, copies], axis=-1)
    read = x
    if decoder.context == "first":
        x = np.concatenate([dense(decoder.into_first, context)[:, None], x], axis=1)
    h, _, _ = run(decoder.stack, x, states=states)
    if decoder.context == "first":
        h = h[:, 1:]
    if decoder.skip:
        h = np.concatenate([h, read], axis=-1)
    if not decoder.tied:
        return dense(decoder.readout, h)
    if decoder.projection is not None:
        h = dense(decoder.projection, h)
    return h @ table.T + np.asarray(decoder.bias, "float64")


def decode_attending(
    decoder: kerasrnn.Decoder,
    previous: np.ndarray,
    context: np.ndarray,
    memory: np.ndarray,
    memory_mask: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and attention's weights of every step, of a decoder whose context is its state."""
    x, read, alpha = _run_attending(decoder, previous, context, memory, memory_mask)
    return _logits_of(decoder, x, read), alpha


def decode_copying(
    decoder: kerasrnn.Decoder,
    previous: np.ndarray,
    context: np.ndarray,
    memory: np.ndarray,
    memory_mask: np.ndarray,
    source_ids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """P of the extended vocabulary and attention's weights of every step: See et al. 2017, 8, 9."""
    known = np.where(previous < decoder.size, previous, 1)
    h, x, alpha = _run_attending(decoder, known, context, memory, memory_mask)
    p_vocabulary, gate = softmax(_logits_of(decoder, h, x)), weights_of(decoder.pointer.gate)
    p = np.zeros((*previous.shape, decoder.size + decoder.copied))
    for n, t in np.ndindex(*previous.shape):
        read = sum(a * row for a, row in zip(alpha[n, t], memory[n], strict=True))
        features = np.concatenate([read, h[n, t], x[n, t]])
        p_gen = sigmoid(features @ gate["kernel"][:, 0] + gate["bias"][0])
        p[n, t, : decoder.size] = p_gen * p_vocabulary[n, t]
        for a, k in zip(alpha[n, t], source_ids[n], strict=True):
            if k:
                p[n, t, k] += (1 - p_gen) * a
    return p / p.sum(axis=-1, keepdims=True), alpha


def _run_attending(decoder, previous, context, memory, memory_mask):
    """The output of the stack, its input, and the weights."""
    table = np.asarray(decoder.embedding.embeddings, "float64")
    x = table[previous]
    if decoder.context == "both":
        x = np.concatenate([x, np.stack([context] * x.shape[1], axis=1)], axis=-1)
    read, states, start = x, [], 0
    flat = np.tanh(dense(decoder.into_state, context))
    for n, layer in enumerate(decoder.stack.layers):
        attends = hasattr(layer.cell, "attention")
        inner = layer.cell.cell if attends else layer.cell
        states = []
        for _ in inner.state_names:
            states.append(flat[:, start : start + inner.units])
            start += inner.units
        if attends:
            y, alpha = run_attending(layer, x, memory, memory_mask=memory_mask, states=states)
        else:
            y, _, _ = run(layer, x, states=states)
        x = y + x if decoder.residual and n else y
    return x, read, alpha


def _logits_of(decoder, x, read):
    if decoder.skip:
        x = np.concatenate([x, read], axis=-1)
    if not decoder.tied:
        return dense(decoder.readout, x)
    if decoder.projection is not None:
        x = dense(decoder.projection, x)
    table = np.asarray(decoder.embedding.embeddings, "float64")
    return x @ table.T + np.asarray(decoder.bias, "float64")


def convolutional_encoder(model: keras.Sequential, images: np.ndarray) -> np.ndarray:
    """3x3 convolutions with zeros around, relu, 2x2 maxima; one dense layer, normalized, relu."""
    x = images / 255
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = (np.asarray(w.value, "float64") for w in layer.weights)
            around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            height, width = x.shape[1:3]
            y = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
            for i in range(3):
                for j in range(3):
                    y += around[:, i : i + height, j : j + width] @ kernel[i, j]
            y = np.maximum(y, 0)[:, : height // 2 * 2, : width // 2 * 2]
            x = y.reshape(len(y), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    last, normalization = model.layers[-3:-1]
    y = dense(last, x.reshape(len(x), -1))
    gamma, beta = (np.asarray(w.value, "float64") for w in normalization.weights)
    deviation = np.sqrt(y.var(axis=-1, keepdims=True) + normalization.epsilon)
    return np.maximum((y - y.mean(axis=-1, keepdims=True)) / deviation * gamma + beta, 0)
