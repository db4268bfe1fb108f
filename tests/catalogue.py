"""The one catalogue of cells: every cross-cutting test loops over its rows.

A new cell adds a row here, and `tests/test_house.py` fails until it has.
"""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import keras

import kerasrnn
from tests.measure import FIRST_BACKEND
from tests.oracles import gru, lstm, simple_rnn


@dataclass(frozen=True)
class Row:
    """One cell, its layer, its independent twins, and the options that change its mathematics."""

    cell: type[kerasrnn.Cell]
    layer: type[kerasrnn.RNN]
    oracle: ModuleType
    keras_layer: type[keras.layers.RNN] | None = None
    keras_cell: type[keras.layers.Layer] | None = None
    variants: tuple[dict[str, Any], ...] = field(default=({},))
    oracle_options: tuple[str, ...] = ()
    """Constructor arguments that the oracle takes by the same name."""

    @property
    def name(self) -> str:
        return self.layer.__name__


COMMON = (
    {},
    {"use_bias": False},
    {"activation": "relu"},
    {"activation": None, "bias_initializer": "random_normal"},
)

ROWS = (
    Row(
        kerasrnn.SimpleRNNCell,
        kerasrnn.SimpleRNN,
        simple_rnn,
        keras.layers.SimpleRNN,
        keras.layers.SimpleRNNCell,
        variants=COMMON,
    ),
    Row(
        kerasrnn.LSTMCell,
        kerasrnn.LSTM,
        lstm,
        keras.layers.LSTM,
        keras.layers.LSTMCell,
        variants=(
            *COMMON,
            {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
        ),
    ),
    Row(
        kerasrnn.GRUCell,
        kerasrnn.GRU,
        gru,
        keras.layers.GRU,
        keras.layers.GRUCell,
        variants=(
            *COMMON,
            {"reset_after": False},
            {"reset_after": False, "use_bias": False},
            {"recurrent_activation": "hard_sigmoid"},
        ),
        oracle_options=("reset_after",),
    ),
)

BY_NAME = {row.name: row for row in ROWS}
VARIANTS = [
    (row, variant)
    for row in ROWS
    for variant in row.variants
    if FIRST_BACKEND or variant in ({}, {"reset_after": False})
]


def variant_id(value: Any) -> str:
    """Names parametrised tests after rows and variants."""
    if isinstance(value, Row):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "default"
    return str(value)
