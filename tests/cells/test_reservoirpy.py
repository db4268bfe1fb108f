"""`EchoState` compared with reservoirpy, a library of reservoirs.

Marked as the other comparisons with packages of the extra `peers`.
"""

import numpy as np
import pytest

import kerasrnn
from tests.measure import PRECISION, TIGHT, op_by_op

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_equals_reservoirpy(leak):
    """The states of a reservoir of the same weights, over time."""
    nodes = pytest.importorskip("reservoirpy.nodes")
    layer = kerasrnn.EchoState(
        20,
        leak=leak,
        sparsity=0.5,
        bias_initializer="ones",
        seed=1,
        return_sequences=True,
        dtype=PRECISION,
    )
    layer.build((1, None, 3))
    kernel, recurrent_kernel, bias = layer.get_weights()
    reservoir = nodes.Reservoir(W=recurrent_kernel.T, Win=kernel.T, bias=bias, lr=leak)
    x = np.random.default_rng(0).standard_normal((1, 30, 3))
    with op_by_op():
        y = np.asarray(layer(x))[0]
    np.testing.assert_allclose(y, reservoir.run(x[0]), rtol=0, atol=TIGHT)
