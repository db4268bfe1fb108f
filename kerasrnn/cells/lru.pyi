"""Written by `python -m tests.generated`."""

from typing import Any, Literal

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell

class LRUCell(LinearCell):
    def __init__(
        self,
        units: int,
        use_bias: bool = False,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_phase: float = 6.283185307179586,
        seed: int | None = None,
        *,
        zoneout: float | list = 0.0,
        **kwargs: Any,
    ) -> None: ...

class LRU(Recurrent):
    def __init__(
        self,
        units: int,
        use_bias: bool = False,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_phase: float = 6.283185307179586,
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
