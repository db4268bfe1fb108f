"""GRU-D with missing values: NaN in the inputs."""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.measure import PRECISION, TIGHT, TRAINING, make_mask, measure, op_by_op, randomize
from tests.oracles import complex_step, grud
from tests.oracles import loop as oracle_loop

UNITS, FEATURES = 3, 2


def sequences():
    """Of four rows, of which the last never has an observation of the second variable."""
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 5, FEATURES))
    x[random.random(x.shape) < 0.5] = np.nan
    x[3, :, 1] = np.nan
    return x.astype(PRECISION)


def new_layer(**options):
    layer = kerasrnn.GRUD(UNITS, return_sequences=True, dtype=PRECISION, **options)
    layer.build((None, None, FEATURES))
    randomize(layer)
    return layer


def weights_of(layer):
    return {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}


@pytest.mark.parametrize("kind", ["none", "mixed"])
def test_equals_the_oracle(kind):
    """Outputs, states and gradients, which are 0 for missing values and never NaN."""
    layer, x, mask = new_layer(return_state=True), sequences(), make_mask(kind, 4, 5)
    weights = weights_of(layer)
    states = [np.zeros((4, *shape)) for shape in layer.cell.state_shapes]
    outputs, _, finals = oracle_loop.run(grud.step, x, states, weights, mask=mask)
    random = np.random.default_rng(7)  # the factors of `measure`
    d_outputs, *d_finals = (random.standard_normal(y.shape) for y in (outputs, *finals))
    d_x, _, d_weights = complex_step.backward(
        grud.step, x, states, weights, d_outputs, d_finals, mask=mask
    )
    assert (d_x[np.isnan(x)] == 0).all()
    trained = [d_weights[w.name] for w in layer.trainable_weights]
    for training in TRAINING:
        with op_by_op():
            actual = measure(layer, x, mask=mask, training=training)
        expected = [outputs, *finals, d_x, *trained]
        for a, b in zip(actual.arrays(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=TIGHT)


def test_equals_gru_without_missing_values_and_decay():
    """The kernel of the mask is part of the bias, and the update gate the other way round."""
    layer, x = new_layer(), np.nan_to_num(sequences(), nan=0.3)
    weights = weights_of(layer)
    for name in ("decay_kernel", "decay_bias"):
        weights[name][:] = -1
    layer.set_weights(list(weights.values()))
    bias = weights["bias"] + weights["mask_kernel"].sum(axis=0)
    known = keras.layers.GRU(UNITS, reset_after=False, return_sequences=True, dtype=PRECISION)
    known.build(x.shape)
    values = [np.array(w) for w in (weights["kernel"], weights["recurrent_kernel"], bias)]
    for value in values:
        value[..., :UNITS] *= -1
    known.set_weights(values)
    with op_by_op():
        np.testing.assert_allclose(layer(x), known(x), rtol=0, atol=TIGHT)


def test_a_value_decays_to_the_mean():
    """At the learned rate, from the time of the last observation on: read off the gates."""
    means = keras.initializers.Constant([5.0, -2.0])
    layer = new_layer(mean_initializer=means, activation=None)
    weights = {name: np.zeros_like(value) for name, value in weights_of(layer).items()}
    weights["mean"][:] = 5, -2
    weights["input_decay_kernel"][:] = 0.5, 0.25
    weights["bias"][:UNITS] = 50  # the state is the candidate: the values themselves
    weights["kernel"][0, 2 * UNITS], weights["kernel"][1, 2 * UNITS + 1] = 1, 1
    layer.set_weights(list(weights.values()))
    x = np.full((1, 4, 2), np.nan, PRECISION)
    x[0, 0, 0], x[0, 1, 1] = 7, -3
    with op_by_op():
        y = np.asarray(layer(x))[0, :, :2]
    decay = np.exp(-0.5 * np.arange(4))
    np.testing.assert_allclose(y[:, 0], 5 + 2 * decay, rtol=1e-6)
    np.testing.assert_allclose(y[:, 1], [-2, -3, -2 - np.exp(-0.25), -2 - np.exp(-0.5)], rtol=1e-6)


def test_the_state_decays():
    """If the update gate is closed, by the decays of all steps."""
    layer = new_layer()
    weights = {name: np.zeros_like(value) for name, value in weights_of(layer).items()}
    weights["bias"][:UNITS] = -50
    weights["decay_kernel"][:] = np.array([[0.1], [0.2]])
    layer.set_weights(list(weights.values()))
    x = np.full((1, 3, 2), np.nan, PRECISION)
    x[0, 1, 0] = 1
    states = [np.ones((1, UNITS)), np.zeros((1, 2)), np.zeros((1, 2))]
    with op_by_op():
        y = np.asarray(layer(x, initial_state=[s.astype(PRECISION) for s in states]))[0]
    # The times since the last observations are (1, 1), (2, 2) and (1, 3).
    np.testing.assert_allclose(y[:, 0], np.exp(-np.cumsum([0.3, 0.6, 0.7])), rtol=1e-6)


def test_a_model_is_trained_and_saved(tmp_path):
    """Its mean is not trained. Shapes of the states are known once it is built."""
    with pytest.raises(ValueError, match=r"x has \(None,\); expected sizes that are known"):
        kerasrnn.GRUDCell(2).get_initial_state(1)
    means = keras.initializers.Constant([0.5, -0.5])
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), kerasrnn.GRUD(UNITS, mean_initializer=means)]
    )
    before = model.get_weights()
    model.compile("sgd", "mse", jit_compile=False)
    x = sequences().astype("float32")
    with op_by_op():
        for _ in range(2):
            model.train_on_batch(x, np.ones((4, UNITS)))
    assert all(np.isfinite(value).all() for value in model.get_weights())
    for weight, old in zip(model.weights, before, strict=True):
        assert (np.abs(np.asarray(weight) - old).max() > 0) == weight.trainable, weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.tensorflow
def test_exports_read_missing_values(tmp_path):
    """NaN is compared in every format, of which some might simplify `x != x`."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from kerasrnn.export import to_litert, to_onnx, to_saved_model

    model = keras.Sequential(
        [keras.Input((None, FEATURES), name="steps"), kerasrnn.GRUD(UNITS, name="y")]
    )
    randomize(model)
    x = sequences().astype("float32")
    with op_by_op():
        expected = np.asarray(model(x))
    to_onnx(model, tmp_path / "onnx", check=False)
    to_saved_model(model, tmp_path / "saved", check=False)
    to_litert(model, tmp_path / "litert", check=False)
    (by_onnx,) = onnxruntime.InferenceSession(tmp_path / "onnx").run(None, {"steps": x})
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    by_tensorflow = saved.serve(x)
    runner = Interpreter(model_path=str(tmp_path / "litert")).get_signature_runner()
    (by_litert,) = runner(steps=x).values()
    for y in (by_onnx, by_tensorflow, by_litert):
        np.testing.assert_allclose(np.asarray(y), expected, atol=1e-6)
