"""Steps against whole sequences."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, parity, streaming, to_onnx, to_saved_model, to_step
from tests.catalogue import ROWS, variant_id
from tests.export.models import sequential
from tests.export.test_onnx import recurrent_nodes
from tests.measure import randomize

pytestmark = pytest.mark.tensorflow


def streamed(run, x, widths):
    """Outputs of all steps, `(batch, time, ...)`, fed one by one from zeros."""
    states = [np.zeros((len(x), width), "float32") for width in widths]
    outputs = []
    for t in range(x.shape[1]):
        y, *states = run([x[:, t], *states])
        outputs.append(y)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_cells(row):
    """Layer on layer; the step's outputs are the whole's."""
    model = sequential(
        row.layer(4, return_sequences=True), keras.layers.Dense(3), row.layer(5, name="top")
    )
    step = to_step(model, check=False)
    names = row.cell(1).state_names
    assert [x.name for x in step.inputs][-len(names) :] == [f"top_{name}" for name in names]
    assert step.output_names[-len(names) :] == [f"top_{name}_next" for name in names]
    x = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")
    widths = [s.shape[1] for s in step.inputs[1:]]
    y, whole = streamed(parity.reference(step), x, widths), parity.reference(model)
    for t in range(6):
        np.testing.assert_allclose(y[:, t], *whole([x[:, : t + 1]]), atol=1e-5)


def test_exports(tmp_path):
    """In all formats, at any batch size, without a loop; no mask is left."""
    import onnxruntime
    import tensorflow as tf

    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="ids"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            kerasrnn.StackedRNN(
                [kerasrnn.LSTM(4), kerasrnn.UGRNN(4)], residual=True, return_sequences=True
            ),
            keras.layers.GRU(5, return_sequences=True),
            keras.layers.Dense(2, name="scores"),
        ]
    )
    randomize(model)
    step = to_step(model)
    widths = [s.shape[1] for s in step.inputs[1:]]
    assert widths == [4, 4, 4, 5]
    to_onnx(step, tmp_path / "m.onnx")
    to_saved_model(step, tmp_path / "m")
    assert recurrent_nodes(tmp_path / "m.onnx") == {"LSTM": 1, "GRU": 1}
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    names = [x.name for x in session.get_inputs()]
    assert names[0] == "ids_t"
    assert session.get_outputs()[0].name == "scores_t"
    served = tf.saved_model.load(str(tmp_path / "m"))

    def by_onnxruntime(inputs):
        return session.run(None, dict(zip(names, inputs, strict=True)))

    def by_tensorflow(inputs):
        return [y.numpy() for y in served.serve(inputs)]

    for rows in (1, 3):
        ids = np.random.default_rng(rows).integers(1, 9, (rows, 5)).astype("int32")
        for run in (by_onnxruntime, by_tensorflow):
            np.testing.assert_allclose(streamed(run, ids, widths), model(ids), atol=1e-5)


def test_models_in_models_and_inputs_of_all_steps():
    """A layer that is called twice has two states; what has no time axis is fed every time."""
    shared = kerasrnn.GRU(3, return_sequences=True, name="shared")
    inner = keras.Sequential([keras.Input((None, 3)), kerasrnn.MGU(4, name="last")], name="inner")
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


def test_stateful_models_are_steps_of_themselves():
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3)), keras.layers.GRU(4, stateful=True, name="it")]
    )
    step = to_step(model)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    model.layers[0].reset_state()
    y = streamed(step.predict_on_batch, x, [4])
    for t in range(5):
        np.testing.assert_allclose(y[:, t], model(x[:, t : t + 1]), atol=1e-5)


def test_the_step_has_weights_of_its_own():
    model = sequential(kerasrnn.GRU(2), keras.layers.Dense(1))
    step = to_step(model)
    before = step.get_weights()
    model.set_weights([w + 1 for w in model.get_weights()])
    for a, b in zip(step.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (
            lambda: [keras.layers.Conv1D(3, 2, padding="causal", name="c"), kerasrnn.GRU(3)],
            ParityError,
            r"looks at other steps than its own: c \(Conv1D\)\.",
        ),
        (
            lambda: [kerasrnn.BidirectionalRNN(kerasrnn.GRU(3), name="b")],
            ValueError,
            "b: Bidirectional reads the sequence from its end",
        ),
        (
            lambda: [kerasrnn.StackedRNN([kerasrnn.BidirectionalRNN(kerasrnn.GRU(3))], name="s")],
            ValueError,
            "s: bidirectional.* reads the sequence from its end",
        ),
        (
            lambda: [kerasrnn.GRU(3, go_backwards=True, name="g")],
            ValueError,
            "g: GRU reads the sequence from its end",
        ),
        (lambda: [keras.layers.Dense(3)], ValueError, "has no recurrent layer"),
    ],
    ids=["convolution", "bidirectional", "in a stack", "backwards", "none"],
)
def test_what_has_no_step(layers, error, message):
    with pytest.raises(error, match=message):
        to_step(sequential(*layers()))


def test_bad_input():
    with pytest.raises(ValueError, match=r"has inputs of \(None, 5, 3\); expected one of \(batch,"):
        to_step(sequential(kerasrnn.GRU(2), shape=(5, 3)))
    steps, start = keras.Input((None, 3)), keras.Input((2,))
    model = keras.Model([steps, start], kerasrnn.GRU(2, name="g")(steps, initial_state=start))
    with pytest.raises(ValueError, match="g: given its initial state"):
        to_step(model)
    assert streaming.to_step is to_step
