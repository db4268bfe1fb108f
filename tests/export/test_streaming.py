"""Single steps, compared with whole sequences."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import (
    ParityError,
    parity,
    streaming,
    to_litert,
    to_onnx,
    to_saved_model,
    to_step,
)
from tests.catalogue import PARTS, part_id
from tests.export.models import branches, sequential
from tests.export.test_onnx import recurrent_nodes
from tests.measure import op_by_op, passing_masks, randomize

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _small_cases(monkeypatch):
    """Steps are compared on one small batch; tests/export/test_parity.py has all sizes."""
    monkeypatch.setattr(parity, "SIZES", ((3, 4, "end"),))


def streamed(run, x, widths):
    """The outputs of all steps, `(batch, time, ...)`, from states of zeros.

    Args:
        widths: widths of the states, or their shapes without the batch.
    """
    states = [np.zeros((len(x), *np.atleast_1d(width)), "float32") for width in widths]
    outputs = []
    for t in range(x.shape[1]):
        y, *states = run([x[:, t], *states])
        outputs.append(y)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("part", PARTS, ids=part_id)
def test_cells(part):
    """Two layers of each cell."""
    model = branches(
        {
            row.name: [
                row.layer(4, return_sequences=True),
                keras.layers.Dense(3),
                row.layer(5, name=f"top_{row.name}"),
            ]
            for row in part
        },
        masked=False,
    )
    step = to_step(model, check=False)
    states = {f"top_{row.name}_{name}" for row in part for name in row.cell.state_names}
    assert {x.name for x in step.inputs if x.name.startswith("top_")} == states
    after = {name for name in step.output_names if name.startswith("top_")}
    assert after == {f"{name}_next" for name in states}
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype("float32")
    run, whole = parity.reference(step), parity.reference(model)
    before = {s.name: np.zeros((2, *s.shape[1:]), "float32") for s in step.inputs[1:]}
    for t in range(3):
        results = run([x[:, t], *(before[s.name] for s in step.inputs[1:])])
        for y, right in zip(results[: len(part)], whole([x[:, : t + 1]]), strict=True):
            np.testing.assert_allclose(y, right, atol=1e-5)
        named = dict(zip(step.output_names, results, strict=True))
        before = {name: named[f"{name}_next"] for name in before}


def test_exports(tmp_path):
    """In every format, for any batch size, without a loop and without a mask."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="ids"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            kerasrnn.StackedRNN(
                [kerasrnn.LSTM(4), kerasrnn.UGRNN(4)], residual=True, return_sequences=True
            ),
            passing_masks(keras.layers.GRU(5, return_sequences=True)),
            keras.layers.Dense(2, name="scores"),
        ]
    )
    randomize(model)
    step = to_step(model, check=False)
    widths = [s.shape[1] for s in step.inputs[1:]]
    assert widths == [4, 4, 4, 5]
    for name, export in (("onnx", to_onnx), ("saved", to_saved_model), ("litert", to_litert)):
        export(step, tmp_path / name, check=False)
    assert recurrent_nodes(tmp_path / "onnx") == {"LSTM": 1, "GRU": 1}
    session = onnxruntime.InferenceSession(tmp_path / "onnx")
    names = [x.name for x in session.get_inputs()]
    assert names[0] == "ids_t"
    assert session.get_outputs()[0].name == "scores_t"
    served = tf.saved_model.load(str(tmp_path / "saved"))
    interpreter = Interpreter(model_path=str(tmp_path / "litert"))
    assert "WHILE" not in {op["op_name"] for op in interpreter._get_ops_details()}
    by_name = interpreter.get_signature_runner()

    def by_onnxruntime(inputs):
        return session.run(None, dict(zip(names, inputs, strict=True)))

    def by_tensorflow(inputs):
        return [y.numpy() for y in served.serve(inputs)]

    def by_litert(inputs):
        found = by_name(**dict(zip(names, inputs, strict=True)))
        return [found[name] for name in step.output_names]

    for rows in (1, 3):
        ids = np.random.default_rng(rows).integers(1, 9, (rows, 4)).astype("int32")
        (expected,) = parity.reference(model)([ids])
        for run in (by_onnxruntime, by_tensorflow, by_litert):
            np.testing.assert_allclose(streamed(run, ids, widths), expected, atol=1e-5)


def test_models_in_models_and_inputs_of_all_steps():
    """A layer that is called twice has two states; an input without a time axis is unchanged."""
    shared = kerasrnn.SimpleRNN(3, return_sequences=True, name="shared")
    inner = kerasrnn.IndRNN(4, name="last")
    inner = keras.Sequential([keras.Input((None, 3)), inner], name="inner")
    frames, speaker = keras.Input((None, 3), name="frames"), keras.Input((2,), name="speaker")
    last = inner(shared(shared(frames)))
    model = keras.Model(
        [frames, speaker], keras.layers.Dense(2)(keras.layers.Concatenate()([last, speaker]))
    )
    randomize(model)
    step = to_step(model)
    assert [x.name for x in step.inputs] == [
        *("frames_t", "speaker_t"),
        *("shared_h", "shared_h_2", "last_h"),
    ]


def test_stateful_models():
    """The batch size is fixed, and the states of the model are unchanged."""
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3)), keras.layers.GRU(4, stateful=True, name="it")]
    )
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    with op_by_op():
        model(x)
    before = np.asarray(model.layers[0].states[0])
    step = to_step(model)
    np.testing.assert_array_equal(model.layers[0].states[0], before)
    assert [s.shape for s in step.inputs] == [(2, 3), (2, 4)]
    model.layers[0].reset_state()
    y = streamed(parity.reference(step), x, [4])
    with op_by_op():
        for t in range(5):
            np.testing.assert_allclose(y[:, t], model(x[:, t : t + 1]), atol=1e-5)


def test_a_known_number_of_steps():
    """Ids and frames of one length; another input with as many features is no sequence."""
    layers = keras.layers
    ids, frames = keras.Input((6,), dtype="int32", name="ids"), keras.Input((6, 3), name="frames")
    speaker = keras.Input((6,), name="speaker")
    same = layers.RepeatVector(6)(layers.Dense(2)(speaker))
    x = layers.Concatenate()([layers.Embedding(9, 4, mask_zero=True)(ids), frames, same])
    layer = passing_masks(layers.LSTM(3, return_sequences=True))
    model = keras.Model([ids, frames, speaker], layer(x))
    randomize(model)
    step = to_step(model, check=False)
    assert [s.shape for s in step.inputs] == [(None,), (None, 3), (None, 6), (None, 3), (None, 3)]
    random = np.random.default_rng(0)
    a = random.integers(1, 9, (2, 6)).astype("int32")
    b, c = (random.standard_normal(shape).astype("float32") for shape in ((2, 6, 3), (2, 6)))
    states = [np.zeros((2, 3), "float32")] * 2
    (whole,), run = parity.reference(model)([a, b, c]), parity.reference(step)
    for t in range(6):
        y, *states = run([a[:, t], b[:, t], c, *states])
        np.testing.assert_allclose(y, whole[:, t], atol=1e-5)


def windows(x, size, dilation=1):
    """`(batch, time, size, features)`: each step and those before it, zeros before the first."""
    before = (size - 1) * dilation
    padded = np.pad(x, ((0, 0), (before, 0), (0, 0)))
    taps = [padded[:, k * dilation : k * dilation + x.shape[1]] for k in range(size)]
    return np.stack(taps, axis=2)


def test_windows(tmp_path):
    """A causal, dilated convolution and a pool, in onnxruntime, compared with NumPy."""
    import onnxruntime

    model = sequential(
        keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2, name="conv"),
        keras.layers.ReLU(),
        keras.layers.ZeroPadding1D((1, 0)),
        keras.layers.MaxPooling1D(2, strides=1, name="pool"),
        keras.layers.GRU(5, return_sequences=True, name="gru"),
    )
    kernel, bias = model.get_layer("conv").get_weights()
    step = to_step(model, check=False)
    assert [s.name for s in step.inputs] == ["steps_t", "conv_window", "pool_window", "gru_h"]
    shapes = [s.shape[1:] for s in step.inputs[1:]]
    assert shapes == [(4, 3), (1, 4), (5,)]
    to_onnx(step, tmp_path / "m.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    names = [tensor.name for tensor in session.get_inputs()]
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype("float32")
    y = streamed(lambda fed: session.run(None, dict(zip(names, fed, strict=True))), x, shapes)
    conv = np.einsum("btki,kio->bto", windows(x, 3, 2), kernel) + bias
    pooled = windows(np.maximum(conv, 0), 2).max(axis=2)
    with op_by_op():
        expected = model.get_layer("gru")(pooled)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_network_of_convolutions_has_a_step():
    """With residual connections, and depthwise and separable convolutions after padding."""
    layers = keras.layers
    frames = x = keras.Input((None, 4), name="x")
    for dilation in (1, 2):
        conv = layers.Conv1D(4, 3, padding="causal", dilation_rate=dilation, activation="relu")
        x = layers.BatchNormalization()(x + 2.0 * conv(x))
    x = layers.DepthwiseConv1D(2)(layers.ZeroPadding1D((1, 0))(x))
    x = layers.SeparableConv1D(3, 2, dilation_rate=3)(layers.ZeroPadding1D((3, 0))(x))
    x = layers.AveragePooling1D(2, strides=1)(layers.ZeroPadding1D((1, 0))(x))
    model = keras.Model(frames, layers.Conv1D(2, 1)(x))
    randomize(model)
    step = to_step(model, check=False)
    shapes = [s.shape[1:] for s in step.inputs[1:]]
    assert shapes == [(2, 4), (4, 4), (1, 4), (3, 4), (1, 3)]
    x = np.random.default_rng(0).standard_normal((2, 12, 4)).astype("float32")
    y = streamed(parity.reference(step), x, shapes)
    np.testing.assert_allclose(y, model(x), atol=1e-5)


def test_layers_that_act_on_each_step():
    """A convolution of each frame, a stack of cells, functions that are not registered."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, 6, 3)),
            layers.TimeDistributed(layers.Conv1D(2, 2)),
            layers.Reshape((-1, 10)),
            layers.LayerNormalization(),
            layers.Softmax(),
            layers.RNN([layers.GRUCell(2), layers.LSTMCell(3)], return_sequences=True, name="deep"),
            layers.GRU(2, activation=lambda x: keras.ops.tanh(x) / 2),
            layers.Lambda(lambda h: 2 * h),
        ]
    )
    randomize(model)
    step = to_step(model, check=False)
    widths = [s.shape[1] for s in step.inputs[1:]]
    assert widths == [2, 3, 3, 2]
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype("float32")
    y = streamed(parity.reference(step), x, widths)
    run = parity.reference(model)
    for t in (0, 4):
        np.testing.assert_allclose(y[:, t], run([x[:, : t + 1]])[0], atol=1e-5)


def test_custom_layers_must_be_declared_and_are_compared():
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    class Shifted(keras.layers.Layer):
        def call(self, x):
            return keras.ops.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]

    model = sequential(Doubled(name="own"), kerasrnn.SimpleRNN(2))
    with pytest.raises(ValueError, match=r"own: Doubled is not known .*; .* per_step=\['own'\]"):
        to_step(model)
    to_step(model, per_step=["own"])
    with pytest.raises(ParityError, match=r"the steps differ from model .* inside TimeDistributed"):
        to_step(sequential(Shifted(name="own"), kerasrnn.SimpleRNN(2)), per_step=["own"])
    with pytest.raises(ValueError, match=r"per_step=\['owm'\]: model .* has no layer 'owm'"):
        to_step(model, per_step=["owm"])


def test_the_step_has_weights_of_its_own():
    model = sequential(kerasrnn.GRU(2), keras.layers.Dense(1))
    step = to_step(model, check=False)
    before = step.get_weights()
    model.set_weights([w + 1 for w in model.get_weights()])
    for a, b in zip(step.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def shifted(x):
    return keras.ops.roll(x, 1, axis=1)


LAYERS = keras.layers
KNOWN = "is not known to act on each step independently, or to read a window of past steps"
REFUSED = {
    "same": (lambda: [LAYERS.Conv1D(3, 2, padding="same", name="it")], "it: Conv1D with padding="),
    "strides": (
        lambda: [LAYERS.Conv1D(3, 2, 2, padding="causal", name="it")],
        "it: Conv1D with padding='causal' and strides=2 does not compute one output per step",
    ),
    "valid": (
        lambda: [LAYERS.Conv1D(3, 2, name="it")],
        r"it: .* expected strides=1 and padding='causal' or padding='valid' after ZeroPadding1D\(",
    ),
    "padding behind": (
        lambda: [LAYERS.ZeroPadding1D((1, 1), name="it")],
        "it: .* stream has no end",
    ),
    "padding unused": (
        lambda: [LAYERS.ZeroPadding1D((1, 0)), kerasrnn.GRU(3, name="it")],
        "it: GRU reads a sequence with 1 steps of padding in front",
    ),
    "pooling": (
        lambda: [LAYERS.AveragePooling1D(2, name="it")],
        "it: AveragePooling1D with padding=",
    ),
    "global pooling": (lambda: [LAYERS.GlobalMaxPooling1D(name="it")], rf"it: \w+ {KNOWN}\.$"),
    "masked pooling": (
        lambda: [LAYERS.Masking(), LAYERS.GlobalAveragePooling1D(name="it")],
        rf"it: \w+ {KNOWN}\.$",
    ),
    "groups": (lambda: [LAYERS.GroupNormalization(1, name="it")], f"it: .* {KNOWN}"),
    "activation": (lambda: [LAYERS.Activation(shifted, name="it")], r"it: .* per_step=\['it'\]"),
    "dense": (lambda: [LAYERS.Dense(3, shifted, name="it")], f"it: Dense {KNOWN}"),
    "lambda": (lambda: [LAYERS.Lambda(shifted, name="it")], r"it: .* per_step=\['it'\]"),
    "steps of the features": (lambda: [LAYERS.Permute((2, 1), name="it")], f"it: Permute {KNOWN}"),
    "reshape": (lambda: [LAYERS.Reshape((2, 6), name="it")], "it: Reshape from .* not keep the st"),
    "repeated": (
        lambda: [kerasrnn.GRU(3), LAYERS.RepeatVector(4, name="it")],
        "it: RepeatVector repeats what is computed from the whole sequence",
    ),
    "bidirectional": (
        lambda: [kerasrnn.Bidirectional(kerasrnn.GRU(3), name="it")],
        "it: Bidirectional.* reads the sequence from its end",
    ),
    "in a stack": (
        lambda: [kerasrnn.StackedRNN([kerasrnn.Bidirectional(kerasrnn.GRU(3))], name="it")],
        "it: bidirectional.* reads the sequence from its end",
    ),
    "backwards": (
        lambda: [kerasrnn.GRU(3, go_backwards=True, name="it")],
        "it: GRU reads the sequence from its end",
    ),
    "none": (lambda: [LAYERS.Dense(3)], "has no layer with a state"),
}


@pytest.mark.parametrize(("layers", "message"), REFUSED.values(), ids=REFUSED)
def test_layers_without_a_step(layers, message):
    with pytest.raises(ValueError, match=message):
        to_step(sequential(*layers()))


def functional(build):
    x = keras.Input((4, 3), name="x")
    return keras.Model(x, kerasrnn.GRU(2, name="gru")(build(x)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: LAYERS.Attention(name="it")([x, x]), f"it: Attention {KNOWN}"),
        (lambda x: LAYERS.BatchNormalization(axis=1, name="it")(x), f"it: .* {KNOWN}"),
        (lambda x: x + np.ones((4, 3), "float32"), f"Add {KNOWN}"),
        (lambda x: keras.ops.cumsum(x, axis=1), f"Cumsum {KNOWN}"),
        (lambda x: LAYERS.Concatenate(axis=1, name="it")([x, x]), f"it: Concatenate {KNOWN}"),
        (
            lambda x: x + keras.ops.expand_dims(kerasrnn.GRU(3)(x), 1),
            "Add combines each step with values computed from the whole sequence",
        ),
    ],
    ids=["attention", "normalization", "positions", "sums", "in time", "the last output"],
)
def test_operations_without_a_step(build, message):
    with pytest.raises(ValueError, match=message):
        to_step(functional(build))


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"has inputs of \(None, 5\); expected one of \(batch, tim"
    ):
        to_step(sequential(keras.layers.Dense(2), shape=(5,)))
    steps, start = keras.Input((None, 3)), keras.Input((2,))
    model = keras.Model([steps, start], kerasrnn.GRU(2, name="g")(steps, initial_state=start))
    with pytest.raises(ValueError, match="g: given its initial state"):
        to_step(model)
    used = keras.Input((None,), dtype="bool")
    model = keras.Model([steps, used], kerasrnn.GRU(2, name="g")(steps, mask=used))
    with pytest.raises(ValueError, match="g: given a mask; expected none"):
        to_step(model)
    assert streaming.to_step is to_step


def test_a_masked_model_that_was_saved(tmp_path):
    """In a loaded model, the mask of a layer comes from an operation, and from the tensor."""
    x = keras.Input((None, 2))
    y = kerasrnn.GRU(3, return_sequences=True)(
        keras.layers.Rescaling(0.5)(keras.layers.Masking()(x))
    )
    model = keras.Model(x, kerasrnn.LSTM(2, return_sequences=True)(y))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    values = np.random.default_rng(0).standard_normal((2, 4, 2)).astype("float32")
    y = streamed(parity.reference(to_step(loaded, check=False)), values, [3, 2, 2])
    np.testing.assert_allclose(y, parity.reference(model)([values])[0], atol=1e-6)
