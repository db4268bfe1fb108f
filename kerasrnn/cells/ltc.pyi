"""Written by `python -m tests.generated`."""

from collections.abc import Callable
from typing import Any, Literal

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent

class LTCCell(Cell):
    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = None,
        recurrent_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        unfoldings: int = 6,
        time_column: bool = False,
        seed: int | None = None,
        *,
        zoneout: float | list = 0.0,
        **kwargs: Any,
    ) -> None: ...

class LTC(Recurrent):
    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = None,
        recurrent_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        unfoldings: int = 6,
        time_column: bool = False,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        *,
        zoneout: float | list = 0.0,
        zero_output_for_mask: bool = False,
        jit_compile: Literal["auto"] | bool = "auto",
        checkpoint_every: int | Literal["sqrt"] | None = None,
        truncate_every: int | None = None,
        learn_initial_state: bool = False,
        return_all_states: bool = False,
        **kwargs: Any,
    ) -> None: ...
