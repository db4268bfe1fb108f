"""The one catalogue of cells: every cross-cutting test loops over its rows.

A new cell adds a row here, and `tests/test_house.py` fails until it has.
"""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import keras

import kerasrnn
from tests.measure import FIRST_BACKEND, passing_masks
from tests.oracles import gru, ind_rnn, layer_norm_lstm, lstm, mgu, peephole_lstm, simple_rnn, ugrnn


@dataclass(frozen=True)
class Row:
    """One cell, its layer, its independent twins, and the options that change its mathematics."""

    cell: type[kerasrnn.Cell]
    layer: type[kerasrnn.RNN]
    oracle: ModuleType
    keras_layer: type[keras.layers.RNN] | None = None
    """The built-in layer, where there is one."""
    keras_cell: type[keras.layers.Layer] | None = None
    variants: tuple[dict[str, Any], ...] = field(default=({},))
    oracle_options: tuple[str, ...] = ()
    """Constructor arguments that the oracle takes by the same name."""
    steady: dict[str, Any] = field(default_factory=dict)
    """Options under which rounding errors stay small, in gradients too: for half precision."""

    @property
    def name(self) -> str:
        return self.layer.__name__

    def twin(self, units: int, **options: Any) -> keras.layers.RNN:
        """The layer in a loop that is not ours: the built-in one, or Keras's loop around our cell.

        Where there is no built-in layer, the twin's mathematics is our own; the oracle is what
        holds that.
        """
        if self.keras_layer is not None:
            return passing_masks(self.keras_layer(units, **options))
        of_cell = {*self.cell.arguments(), "implementation"} & set(options)
        cell = self.cell(
            units, dtype=options.get("dtype"), **{name: options.pop(name) for name in of_cell}
        )
        return passing_masks(keras.layers.RNN(cell, **options))


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
    Row(
        kerasrnn.PeepholeLSTMCell,
        kerasrnn.PeepholeLSTM,
        peephole_lstm,
        variants=(
            {},
            {"use_bias": False},
            {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
        ),
    ),
    Row(
        kerasrnn.LayerNormLSTMCell,
        kerasrnn.LayerNormLSTM,
        layer_norm_lstm,
        variants=({}, {"use_bias": False}, {"epsilon": 0.1}),
        oracle_options=("epsilon",),
        steady={"epsilon": 0.1},
    ),
    Row(
        kerasrnn.MGUCell,
        kerasrnn.MGU,
        mgu,
        variants=({}, {"use_bias": False}, {"recurrent_activation": "hard_sigmoid"}),
    ),
    Row(
        kerasrnn.IndRNNCell,
        kerasrnn.IndRNN,
        ind_rnn,
        variants=({}, {"use_bias": False}, {"activation": "tanh"}),
        steady={"activation": "tanh"},  # a rounded relu may be on the other side of its kink
    ),
    Row(
        kerasrnn.UGRNNCell,
        kerasrnn.UGRNN,
        ugrnn,
        variants=({}, {"use_bias": False}, {"activation": "relu"}),
    ),
)

BY_NAME = {row.name: row for row in ROWS}
BUILT_IN = [row for row in ROWS if row.keras_layer is not None]
# For slow tests of what surrounds a cell, and does not depend on which it is.
SLOW = ROWS if FIRST_BACKEND else BUILT_IN
VARIANTS = [
    (row, variant)
    for row in ROWS
    for variant in row.variants
    if FIRST_BACKEND or variant in ({}, {"reset_after": False})
]


def variant_id(value: Any) -> str | None:
    """Names parametrised tests after rows and variants; functions have pytest's own names."""
    if isinstance(value, Row):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "default"
    # A function's text has its address in it, which differs between processes.
    return None if callable(value) else str(value)
