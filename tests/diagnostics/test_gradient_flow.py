"""The callback `GradientFlow`: its measurements, and that it does not change training."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.diagnostics import GradientFlow, diagnose
from kerasrnn.keras_internals import get_global_attribute

pytestmark = pytest.mark.tensorflow

FEATURES = 3
RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((8, 6, FEATURES)).astype("float32")
Y = RANDOM.standard_normal((8, 1)).astype("float32")


def demanding_model(**compiled):
    """A model with all kinds of state: dropout, statistics, a stateful layer, metrics."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input(batch_shape=(4, 6, FEATURES))
    x = kerasrnn.SimpleRNN(
        4, return_sequences=True, stateful=True, recurrent_dropout=0.3, jit_compile=False
    )(inputs)
    x = keras.layers.BatchNormalization()(x)
    # Keras draws the dropout masks of its layers in inference too.
    x = keras.layers.SimpleRNN(4, dropout=0.3)(x)
    outputs = [keras.layers.Dense(1, name=name)(x) for name in ("first", "second")]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], ["mse"]], **compiled)
    return model


def states_of(model):
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    stateful = [layer for layer in model.layers if getattr(layer, "stateful", False)]
    variables += [state for layer in stateful for state in layer.states]
    return [np.array(v) for v in variables]


def assert_same_bits(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.traced
def test_training_is_the_same_bit_for_bit():
    ends, logs = [], []
    for callbacks in ([], [GradientFlow(X[:4], [Y[:4], Y[:4]])]):
        model = demanding_model(jit_compile=False)
        history = model.fit(X, [Y, Y], batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        ends.append(states_of(model))
        logs.append(history.history)
    assert_same_bits(*ends)
    assert logs[0] == logs[1]


def test_a_measurement_changes_no_state():
    """In the middle of an epoch, also if it fails."""
    model = demanding_model()
    model.train_on_batch(X[:4], [Y[:4], Y[:4]])
    before = states_of(model)
    keras.random.uniform((1,))  # creates the global seed generator
    generator = get_global_attribute("global_seed_generator")
    seed = np.array(generator.state)

    diagnose(model, X[4:], [Y[:4], Y[:4]])
    with pytest.raises(ZeroDivisionError):
        diagnose(model, X[4:], loss=lambda outputs: 1 / 0)

    assert_same_bits(states_of(model), before)
    np.testing.assert_array_equal(generator.state, seed)
    for layer in model.layers:
        assert "inner_loop" not in vars(layer)
    assert model.layers[1].cell.activation is keras.activations.tanh


def test_metrics_are_empty_after_a_measurement():
    """Of a model that has not been trained, the measurement creates them."""
    model = demanding_model()
    diagnose(model, X[:4], [Y[:4], Y[:4]])
    assert model.metrics_variables
    assert not any(np.any(v) for v in model.metrics_variables)


def small_model(**compiled):
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            kerasrnn.GRU(4, name="gru"),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", **compiled)
    return model


def norms(diagnosis):
    return diagnosis.layers["gru"].states["h"].gradient_norms


def test_measurements_before_training_and_after_every_other_epoch():
    """Each equals `diagnose` with the weights of its epoch."""
    model, flow = small_model(run_eagerly=True), GradientFlow(X, Y, every=2)
    expected = {0: diagnose(model, X, Y)}

    class Twice(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            expected[epoch + 1] = diagnose(self.model, X, Y)

    model.fit(X, Y, epochs=4, verbose=0, callbacks=[flow, Twice()])

    assert list(flow.history) == [0, 2, 4]
    for epoch, diagnosis in flow.history.items():
        np.testing.assert_array_equal(norms(diagnosis), norms(expected[epoch]))
        assert diagnosis.loss == expected[epoch].loss
    assert not np.array_equal(norms(flow.history[0]), norms(flow.history[4]))


def test_resumed_training_continues_the_history():
    model, flow = small_model(run_eagerly=True), GradientFlow(X, Y, loss="mae")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[flow])
    model.fit(X, Y, epochs=3, initial_epoch=2, verbose=0, callbacks=[flow])
    assert list(flow.history) == [0, 1, 2, 3]
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[flow])  # from the start
    assert list(flow.history) == [0, 1]


def test_numbers_and_pictures_for_tensorboard(tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    model, flow = small_model(run_eagerly=True), GradientFlow(X, Y, log_dir=tmp_path)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[flow])

    found = {}
    for file in tmp_path.iterdir():
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                found[event.step, value.tag] = tf.make_ndarray(value.tensor)
    for epoch, diagnosis in flow.history.items():
        layer = diagnosis.layers["gru"]
        state, z = layer.states["h"], layer.gates["z"]
        for tag, expected in {
            "dh/at_the_loss": state.gradient_norms[0],
            "dh/farthest": state.gradient_norms[-1],
            "dh/memory": state.memory,
            "z/below_0.1": z.low.mean(),
            "z/above_0.9": z.high.mean(),
            "rho/spectral_radius": layer.kernels["rho"].spectral_radius,
            "candidate/saturated": layer.saturated.mean(),
        }.items():
            np.testing.assert_allclose(found[epoch, f"gru/{tag}"], expected, rtol=1e-6)
        width, height, png = found[epoch, "gradient flow"]
        picture = tf.image.decode_png(png).numpy()
        assert picture.shape[:2] == (int(height), int(width))
        assert picture.std() > 0


def test_the_picture_has_a_curve_for_each_epoch(tmp_path):
    model, flow = small_model(run_eagerly=True), GradientFlow(X, Y)
    with pytest.raises(ValueError, match="no epoch has been measured"):
        flow.figure()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[flow])

    panel, bar = flow.figure().axes
    flow.draw(tmp_path / "new" / "flow.png")

    assert panel.get_yscale() == "log"
    for line, diagnosis in zip(panel.lines, flow.history.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(6))
        np.testing.assert_array_equal(line.get_ydata(), norms(diagnosis))
    assert len({line.get_color() for line in panel.lines}) == 3
    assert bar.get_ylim() == (0, 2)
    assert (tmp_path / "new" / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_missing_packages_are_reported_before_training(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="every=0: expected a positive integer"):
        GradientFlow(X, Y, every=0)
    for tool in ("tensorboard", "matplotlib.figure"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, tool, None)
            with pytest.raises(ImportError, match=r"kerasrnn\[recipes\]"):
                GradientFlow(X, Y, log_dir=tmp_path)
            flow = GradientFlow(X, Y)
            assert ops.shape(flow.x) == (8, 6, FEATURES)
