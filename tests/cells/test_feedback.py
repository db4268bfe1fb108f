"""`FeedbackCell` against Jordan's recursion around each cell's oracle."""

import contextlib

import keras
import numpy as np
import pytest

import kerasrnn
from tests import numpy_models
from tests.catalogue import BY_NAME, PROBES, variant_id
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    make_mask,
    measure,
    op_by_op,
    randomize,
)


def new_layer(row, activation="softmax", cell_options=None, features=3, **options):
    """Built, with random weights."""
    cell = row.cell(4, dtype=PRECISION, **(cell_options or {}))
    cell = kerasrnn.FeedbackCell(cell, 2, activation, dtype=PRECISION)
    options = {"return_sequences": True, "dtype": PRECISION, **options}
    layer = kerasrnn.RNN(cell, **options)
    layer.build((None, None, features))
    randomize(layer)
    return layer


def sequences(features=3):
    return np.random.default_rng(0).standard_normal((4, 5, features)).astype(PRECISION)


@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_cells_of_every_kind(row):
    """Outputs with masks of every kind; masked steps keep the previous output, y."""
    layer, x = new_layer(row), sequences()
    for kind in MASKS:
        mask = make_mask(kind, 4, 5)
        expected = numpy_models.run_feedback(layer, x, mask)
        with op_by_op():
            y = layer(x, mask=mask)
        np.testing.assert_allclose(y, expected, atol=TIGHT, err_msg=kind)


@pytest.mark.parametrize(
    ("activation", "options"),
    [("sigmoid", {}), (None, {"jit_compile": True}), ("sigmoid", {"unroll": True})],
    ids=variant_id,
)
def test_activations_and_loops(activation, options):
    layer = new_layer(BY_NAME["GRU"], activation, {"reset_after": False}, **options)
    x = sequences()
    with op_by_op() if "unroll" in options else contextlib.nullcontext():
        y = layer(x)
    np.testing.assert_allclose(y, numpy_models.run_feedback(layer, x), atol=TIGHT)


def finite_differences(layer, x, mask, factors):
    """The gradient of sum(outputs * factors) by each weight, by central differences in NumPy."""
    weights = numpy_models.weights_of(layer)
    gradients = {}
    for name, value in weights.items():
        gradients[name] = np.zeros_like(value)
        for index in np.ndindex(*value.shape):
            around = []
            for step in (1e-6, -1e-6):
                moved = np.array(value)
                moved[index] += step
                y = numpy_models.run_feedback(layer, x, mask, {**weights, name: moved})
                around.append((y * factors).sum())
            gradients[name][index] = (around[0] - around[1]) / 2e-6
    return [gradients[w.name] for w in layer.weights]


@pytest.mark.parametrize(
    ("name", "options"),
    [("SimpleRNN", {}), ("LSTM", {}), ("GRU", {"reset_after": False}), ("LayerNormLSTM", {})],
    ids=variant_id,
)
def test_gradients(name, options):
    """The custom gradient of the loop, with gaps; one cell is traced."""
    layer, x = new_layer(BY_NAME[name], "softmax", options, features=1), sequences(1)[:2]
    mask = np.array([[True, False, True, True, False], [False, True, True, False, True]])
    with contextlib.nullcontext() if name == "GRU" else op_by_op():
        measured = measure(layer, x, mask=mask, training=True)
    factors = np.random.default_rng(7).standard_normal(measured.outputs[0].shape)
    expected = finite_differences(layer, x, mask, factors)
    tolerance = 1e-6 if FIRST_BACKEND else 1e-3
    for weight, a, b in zip(layer.weights, measured.d_weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=weight.name)


def test_step_by_step():
    """Calls of the cell equal the layer."""
    layer, x = new_layer(BY_NAME["LSTM"], return_state=True), sequences()
    with op_by_op():
        outputs, *finals = layer(x)
    states = layer.cell.get_initial_state(4)
    assert len(states) == len(finals) == 3
    for t in range(5):
        y, states = layer.cell(x[:, t], states)
        np.testing.assert_allclose(y, outputs[:, t], atol=TIGHT)
    for a, b in zip(states, finals, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_dropout_of_the_inner_cell():
    """In training only, with a new mask for each call."""
    rates = {"dropout": 0.4, "recurrent_dropout": 0.4}
    layer, x = new_layer(BY_NAME["GRU"], cell_options=rates), sequences()
    with op_by_op():
        np.testing.assert_allclose(layer(x), numpy_models.run_feedback(layer, x), atol=TIGHT)
        first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_regularizers_and_constraints_apply_to_its_own_weights(tmp_path):
    rates = {"kernel": 0.1, "recurrent": 0.2, "bias": 0.3}
    options = {f"{name}_regularizer": keras.regularizers.L2(rate) for name, rate in rates.items()}
    options |= {
        f"{name}_constraint": keras.constraints.MaxNorm(rate) for name, rate in rates.items()
    }
    layer, x = kerasrnn.RNN(kerasrnn.FeedbackCell(kerasrnn.GRUCell(4), 2, **options)), sequences()
    model = keras.Sequential([keras.Input((None, 3)), layer])
    randomize(layer)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        each(x)
        cell = each.layers[-1].cell
        of = {
            "kernel": cell.output_kernel,
            "recurrent": cell.feedback_kernel,
            "bias": cell.output_bias,
        }
        expected = [rate * np.sum(np.square(of[name])) for name, rate in rates.items()]
        np.testing.assert_allclose(sorted(each.losses), sorted(expected), rtol=1e-5)
        for name, rate in rates.items():
            norms = np.linalg.norm(of[name].constraint(of[name]), axis=0)
            np.testing.assert_allclose(
                norms, np.minimum(np.linalg.norm(of[name], axis=0), rate), rtol=1e-5
            )


def test_saved_and_loaded_in_a_stack(tmp_path):
    top = kerasrnn.RNN(kerasrnn.FeedbackCell(kerasrnn.MGUCell(4), 3, "sigmoid", use_bias=False))
    inputs = keras.Input((None, 2))
    stack = kerasrnn.StackedRNN([kerasrnn.GRU(5), top], return_sequences=True)
    model = keras.Model(inputs, stack(inputs))
    x = sequences(2)
    below, _, _ = numpy_models.run(stack.layers[0], x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        np.testing.assert_allclose(
            model(x), numpy_models.run_feedback(stack.layers[1], below), atol=1e-5
        )
        np.testing.assert_array_equal(loaded(x), model(x))
    cell = loaded.layers[-1].layers[1].cell
    assert type(cell) is kerasrnn.FeedbackCell
    assert not cell.use_bias
    assert cell.units == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.FeedbackCell(keras.layers.GRUCell(2), 3), "expected a kerasrnn cell"),
        (lambda: kerasrnn.FeedbackCell(kerasrnn.GRUCell(2), 0), "units=0: expected a positive"),
        (
            lambda: kerasrnn.FeedbackCell(new_layer(BY_NAME["GRU"]).cell.cell, 3),
            "is built; expected a new cell",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
