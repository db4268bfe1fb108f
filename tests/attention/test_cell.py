"""`AttentionCell` in every loop, against the papers' recursions written out in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests import by_hand
from tests.attention.attentions import ATTENTIONS
from tests.catalogue import BY_NAME, ROWS, variant_id
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    randomize,
)

BATCH, TIME, POSITIONS, FEATURES, UNITS = 3, 4, 5, 3, 4

# Who asks, and what comes back to the recursion.
WAYS = {
    "fed back": {"units": 3},
    "alone": {"input_feeding": False},
    "state": {"query": "state", "units": 3},
}
RETURNS = {"return_sequences": True, "return_state": True}
# A gradient compiles for seconds on JAX, and the attentions are the same.
SOME = ATTENTIONS if FIRST_BACKEND else ["normalized", "local", "location", "monotonic"]
SOME = [name for name in ATTENTIONS if any(part in name for part in SOME)]


def new_layer(
    attention="bahdanau", row="GRU", shape=(None, None, FEATURES), width=UNITS, cell=None, **options
):
    """Built, with random weights. Options of the attention's cell and of the layer."""
    of_attention = {"units", "query", "input_feeding", "activation"} & set(options)
    of_attention = {name: options.pop(name) for name in of_attention}
    dtype = options.setdefault("dtype", PRECISION)
    cell = BY_NAME[row].cell(UNITS, dtype=dtype, **(cell or {})) if cell is None or (
        isinstance(cell, dict)
    ) else cell
    if isinstance(attention, str):
        attention = ATTENTIONS[attention](dtype=dtype)
    layer = kerasrnn.RNN(
        kerasrnn.AttentionCell(cell, attention, dtype=dtype, **of_attention), **options
    )
    layer.build(shape, memory_shape=(shape[0], None, width))
    randomize(layer)
    return layer
