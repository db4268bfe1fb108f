"""Linear recurrences: the loop and the associative scan, against the cells' own steps.

The steps run one after the other, with `unroll=True`, and are differentiated automatically.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    random_states,
    randomize,
)

pytestmark = pytest.mark.torch_backend

BATCH, TIME, FEATURES, UNITS = 4, 7, 2, 3
# A real state; a complex one with a constant decay and a product in `read`; a window.
PROBES = {
    "MinGRU": kerasrnn.MinGRUCell,
    "LRU": kerasrnn.LRUCell,
    "QRNN": lambda units, **options: kerasrnn.QRNNCell(units, kernel_size=3, **options),
}
OPTIONS = (
    {},
    {"go_backwards": True},
    {"zero_output_for_mask": True},
    {"return_sequences": False},
    {"return_sequences": False, "zero_output_for_mask": True},
)
WAYS = ("loop", "scan")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """How this backend runs the recurrence; PyTorch has the scan alone."""
    backend = keras.config.backend()
    if backend == "torch":
        if request.param == "loop":
            pytest.skip("the loop is driven by Python here: the steps of the oracle")
        return request.param
    from importlib import import_module

    room = import_module(f"kerasrnn.recurrence.{backend}")
    monkeypatch.setattr(room, "scans_in_parallel", lambda: request.param == "scan")
    return request.param


def pair(name, truncated=None, **options):
    """A layer, and the same layer that runs its steps one after the other."""
    layers = []
    for stepwise in (False, True):
        cell = PROBES[name](UNITS, dtype=options.get("dtype", PRECISION))
        if stepwise:
            cell.is_linear = False
        every = truncated if FIRST_BACKEND or not stepwise else None
        layer = kerasrnn.RNN(cell, return_state=True, truncate_every=every, **options)
        layer.build((BATCH, TIME, FEATURES))
        randomize(layer)
        layers.append(layer)
    return layers


def inputs(layer, dtype=PRECISION):
    random = np.random.default_rng(0)
    x = random.standard_normal((BATCH, TIME, FEATURES)).astype(dtype)
    return x, [s.astype(dtype) for s in random_states(layer, BATCH, random)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PROBES)
def test_equals_the_steps(name, options, way):
    """Outputs, states and every gradient; that of training, and the automatic one."""
    linear, stepwise = pair(name, **{"return_sequences": True, "dtype": PRECISION, **options})
    x, states = inputs(linear)
    for kind in ("none", "mixed"):
        mask = make_mask(kind, BATCH, TIME)
        with op_by_op():
            expected = measure(stepwise, x, states, mask, training=True)
            for training in (False, True):
                assert_same(measure(linear, x, states, mask, training), expected, TIGHT)
