"""Errors name the argument, its value and what was expected."""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BY_NAME, ROWS, variant_id

# With two states and with one; the checks are those of the base classes.
rows = pytest.mark.parametrize("row", [BY_NAME["LSTM"], BY_NAME["IndRNN"]], ids=variant_id)
X = np.zeros((4, 6, 3), "float32")


@pytest.mark.parametrize("units", [0, -1, 2.5, "5", None, True])
@rows
def test_units(row, units):
    for cls in (row.layer, row.cell):
        with pytest.raises(ValueError, match=rf"units={units!r}: expected a positive integer"):
            cls(units)


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, "0.5", None, float("nan")])
@rows
def test_rates(row, name, rate):
    with pytest.raises(ValueError, match=rf"{name}={rate!r}: expected a number in \[0, 1\)"):
        row.layer(5, **{name: rate})


@pytest.mark.parametrize("epsilon", [0, -1e-3, "0.1", None, float("nan")])
def test_epsilon(epsilon):
    for cls in (kerasrnn.LayerNormLSTM, kerasrnn.LayerNormLSTMCell):
        with pytest.raises(ValueError, match=rf"epsilon={epsilon!r}: expected a positive number"):
            cls(5, epsilon=epsilon)


@rows
def test_unknown_and_missing_arguments(row):
    with pytest.raises(TypeError, match=f"{row.name}: missing a required argument: 'units'"):
        row.layer()
    with pytest.raises((TypeError, ValueError), match="retrun_sequences"):
        row.layer(5, retrun_sequences=True)
    with pytest.raises(ValueError, match="activation='tahn': expected the name of an act"):
        row.layer(5, activation="tahn")
    with pytest.raises(ValueError, match="jit_compile='yes': expected 'auto', True or False"):
        row.layer(5, jit_compile="yes")
    with pytest.raises(ValueError, match="implementation=3: expected 0, 1 or 2"):
        row.layer(5, implementation=3)


@pytest.mark.parametrize("value", [None, 1, "always"])
def test_use_cudnn(value):
    for layer in (kerasrnn.LSTM, kerasrnn.GRU):
        with pytest.raises(ValueError, match=r"use_cudnn=.*expected 'auto', True or False"):
            layer(5, use_cudnn=value)


@rows
def test_sequences(row):
    with pytest.raises(ValueError, match="expected ndim=3"):
        row.layer(5)(X[0])
    with pytest.raises(ValueError, match=r"\(4, 0, 3\) have no steps"):
        row.layer(5)(X[:, :0])
    with pytest.raises(ValueError, match="features must be known"):
        row.layer(5)(keras.Input((None, None)))
    layer = row.layer(5)
    layer.build(X.shape)
    with pytest.raises(ValueError, match=r"expected axis -1 .* to have value 3"):
        layer(X[:, :, :2])


@pytest.mark.parametrize("shape", [(4, 5), (3, 6), (4,), (4, 6, 3)])
@rows
def test_masks(row, shape):
    with pytest.raises(
        ValueError, match=r"mask has the shape .* expected \(batch, time\) = \(4, 6\)"
    ):
        row.layer(5)(X, mask=np.ones(shape, bool))


@rows
def test_initial_states(row):
    n = len(row.cell.state_names)
    with pytest.raises(ValueError, match=rf"initial_state has {n + 1} tensors; expected {n} \(h"):
        row.layer(5)(X, initial_state=[np.zeros((4, 5), "float32")] * (n + 1))
    with pytest.raises(ValueError, match=r"initial_state h has the shape \(4, 6\); .*\(4, 5\)"):
        row.layer(5)(X, initial_state=[np.zeros((4, 6), "float32")] * n)
    with pytest.raises(ValueError, match=rf"states: expected {n}"):
        row.cell(5)(X[:, 0], [np.zeros((4, 5), "float32")] * (n + 1))


def test_jit_compile_in_keras_own_loop():
    with pytest.raises(ValueError, match=r"jit_compile=True: GRUCell runs in Keras's own loop"):
        kerasrnn.RNN(keras.layers.GRUCell(5), jit_compile=True)
    assert not kerasrnn.RNN(keras.layers.GRUCell(5), jit_compile=False).supports_jit


def test_a_cell_without_an_update():
    class EmptyCell(kerasrnn.Cell):
        pass

    with pytest.raises(NotImplementedError, match="EmptyCell must define `update` or `step`"):
        kerasrnn.RNN(EmptyCell(5))(X)


@pytest.mark.tensorflow
def test_unrolling_needs_a_known_length():
    import tensorflow as tf

    layer = kerasrnn.LSTM(5, unroll=True)
    call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
    with pytest.raises(ValueError, match="Cannot unroll a RNN if the time dimension is undefined"):
        call.get_concrete_function()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.MLSTM(4, chunk_size=0), "chunk_size=0: expected a positive integer"),
        (
            lambda: kerasrnn.QRNN(4, kernel_size=True),
            "kernel_size=True: expected a positive integer",
        ),
        (lambda: kerasrnn.QRNN(4, kernel_size=0), "kernel_size=0: expected a positive integer"),
        (lambda: kerasrnn.Mamba2(4, heads=3), "heads=3: expected a divisor of units=4"),
        (
            lambda: kerasrnn.Mamba2(4, heads=2, groups=4),
            "groups=4: expected a divisor of heads=2",
        ),
        (lambda: kerasrnn.Mamba2(4, state_dim=0), "state_dim=0: expected a positive integer"),
        (lambda: kerasrnn.Mamba2(4, kernel_size=0), "kernel_size=0: expected a positive integer"),
        (lambda: kerasrnn.Mamba2(4, min_step=0.0), "min_step=0.0: expected a positive number"),
        (lambda: kerasrnn.Mamba2(4, max_step=1e-4), "expected a number above min_step"),
        (
            lambda: kerasrnn.MLSTM(4, checkpoint_every=8),
            r"checkpoint_every=8: MLSTMCell .* chunk_size=64 steps.*; expected None",
        ),
    ],
)
def test_arguments_of_single_cells(make, message):
    """Sizes of chunks and windows, and checkpoints, which chunks have in any case."""
    with pytest.raises(ValueError, match=message):
        make()


def test_checkpoints_where_chunks_are_not_computed_at_once():
    """With the states of all steps, MLSTM runs step by step: checkpoints then apply to it."""
    layer = kerasrnn.MLSTM(4, checkpoint_every=2, return_all_states=True)
    layer.return_all_states = False
    with pytest.raises(ValueError, match="checkpoint_every=2: MLSTMCell"):
        layer(X)


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_no_option_is_without_effect(row):
    """A cell lacks the options of all cells that cannot apply to it."""
    values = {"zoneout": 0.1, "weight_drop": 0.1, "recurrent_parametrization": "exponential"}
    found = row.cell.arguments().keys() & values
    for name in found:
        cell = row.cell(4, **{name: values[name]})
        assert cell.alters_step == (name == "zoneout")
    assert ("weight_drop" in found) == bool(row.cell.recurrent_weights)


WITH_FORGET_BIAS = [row for row in ROWS if "unit_forget_bias" in row.cell.arguments()]


@pytest.mark.parametrize("row", WITH_FORGET_BIAS, ids=variant_id)
def test_chrono_initialization_with_a_bias_of_one(row):
    """Units are divisible by the blocks, so that the shapes of the blocks fit by chance."""
    chrono = kerasrnn.ChronoInitializer(50, (1, 0, 0, 0))
    with pytest.raises(ValueError, match="unit_forget_bias=True: expected False with a Chrono"):
        row.layer(8, bias_initializer=chrono)
    row.layer(8, bias_initializer=chrono, unit_forget_bias=False)
