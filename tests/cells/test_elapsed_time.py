"""Cells in continuous time, with the elapsed time as a column of their inputs."""

import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BY_NAME, variant_id
from tests.measure import (
    PRECISION,
    TIGHT,
    TRAINING,
    Measured,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
)
from tests.oracles import complex_step
from tests.oracles import loop as oracle_loop

CELLS = [
    (BY_NAME["CfC"], {"backbone_units": 2}),
    (BY_NAME["CfC"], {"backbone_units": 2, "mode": "pure"}),
    (BY_NAME["LTC"], {"unfoldings": 2}),
    (BY_NAME["PhasedLSTM"], {}),
    (BY_NAME["GRUD"], {}),
]
cells = pytest.mark.parametrize(("row", "options"), CELLS, ids=variant_id)


def sequences(features=3, elapsed=None):
    """Random inputs, and times between 0 and 2 as their last column."""
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 5, features))
    x[..., -1] = random.uniform(0, 2, (4, 5)) if elapsed is None else elapsed
    return x.astype(PRECISION)


def new_layer(row, options, features=3, **more):
    """Built, with random weights."""
    layer = row.layer(
        3, time_column=True, return_sequences=True, dtype=PRECISION, **options, **more
    )
    layer.build((None, None, features))
    randomize(layer)
    return layer


@cells
def test_equals_the_oracle(row, options):
    """Outputs and every gradient, that of the elapsed time included."""
    layer = new_layer(row, options, return_state=True)
    x, mask = sequences(), make_mask("mixed", 4, 5)
    random = np.random.default_rng(1)
    states = [random.standard_normal((4, *shape)) for shape in layer.cell.state_shapes]
    states = [state.astype(PRECISION) for state in states]
    weights = {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}
    config = layer.get_config()
    arguments = {name: config[name] for name in row.oracle_options}
    for training in TRAINING:
        arguments |= {"mask": mask, **row.of_mode(training)}
        every, _, finals = oracle_loop.run(row.oracle.step, x, states, weights, **arguments)
        random = np.random.default_rng(7)  # the factors of `measure`
        d_every, *d_finals = (random.standard_normal(y.shape) for y in (every, *finals))
        d_x, d_states, d_weights = complex_step.backward(
            row.oracle.step, x, states, weights, d_every, d_finals, **arguments
        )
        trained = [d_weights[w.name] for w in layer.trainable_weights]
        expected = Measured([every, *finals], d_x, d_states, trained)
        with op_by_op():
            assert_same(measure(layer, x, states, mask, training), expected, TIGHT)


@cells
@pytest.mark.parametrize("feedback", [False, True], ids=["alone", "feedback"])
def test_a_column_of_ones_changes_nothing(row, options, feedback):
    """Neither does it if the output is fed back, which would be added to the time."""
    layers = []
    for timed in (True, False):
        cell = row.cell(3, time_column=timed, dtype=PRECISION, **options)
        if feedback:
            cell = kerasrnn.FeedbackCell(cell, 2, "sigmoid", dtype=PRECISION)
        layers.append(kerasrnn.RNN(cell, return_sequences=True, dtype=PRECISION))
        layers[-1].build((None, None, 2 + timed))
        randomize(layers[-1])
    x = sequences(elapsed=1.0)
    with op_by_op():
        timed, untimed = layers[0](x), layers[1](x[..., :-1])
    np.testing.assert_allclose(timed, untimed, rtol=0, atol=TIGHT)


@pytest.mark.parametrize(("row", "options"), CELLS[:-1], ids=variant_id)
def test_a_column_without_features(row, options):
    """The times of events, of which nothing else is known; GRU-D reads only those of features."""
    layer = new_layer(row, options, features=1)
    with op_by_op():
        y = np.asarray(layer(sequences(features=1)))
    assert np.abs(y[0] - y[1]).max() > 1e-3


@cells
def test_dropout_leaves_the_time(row, options):
    """Two masks of the inputs that drop everything else have the same outputs."""
    rates = {"dropout": 0.999, "seed": 1}
    layer, plain, x = new_layer(row, options, **rates), new_layer(row, options), sequences()
    without = np.concatenate([np.zeros_like(x[..., :-1]), x[..., -1:]], axis=-1)
    with op_by_op():
        actual, expected = layer(x, training=True), plain(without, training=True)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TIGHT)
