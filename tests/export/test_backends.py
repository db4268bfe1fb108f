"""Copies with other layers and single steps, which every backend computes."""

import keras
import numpy as np

import kerasrnn
from kerasrnn.export import from_keras, to_step
from tests.measure import op_by_op, randomize


@op_by_op()
def test_copies_and_steps():
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Conv1D(4, 3, padding="causal"),
            keras.layers.GRU(5, return_sequences=True),
        ]
    )
    randomize(model)
    x = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    ours = from_keras(model)
    assert type(ours.layers[-1]) is kerasrnn.GRU
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(x)), expected, atol=1e-5)
    step = to_step(model)
    states = [np.zeros((2, 2, 3), "float32"), np.zeros((2, 5), "float32")]
    for t in range(6):
        y, *states = (keras.ops.convert_to_numpy(r) for r in step([x[:, t], *states]))
        np.testing.assert_allclose(y, expected[:, t], atol=1e-5)
