"""Written by `python -m tests.generated`."""

from collections.abc import Callable
from typing import Any, Literal

from kerasrnn.cells.chunked_cell import ChunkedCell
from kerasrnn.cells.layer import Recurrent

class Mamba2Cell(ChunkedCell):
    def __init__(
        self,
        units: int,
        kernel_size: Any = 4,
        activation: str | Callable[..., Any] | None = "silu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        heads: int = 1,
        chunk_size: int = 64,
        groups: int = 1,
        state_dim: int = 64,
        min_step: float = 0.001,
        max_step: float = 0.1,
        seed: int | None = None,
        *,
        zoneout: float | list = 0.0,
        **kwargs: Any,
    ) -> None: ...

class Mamba2(Recurrent):
    def __init__(
        self,
        units: int,
        activation: str | Callable[..., Any] | None = "silu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        chunk_size: int = 64,
        heads: int = 1,
        groups: int = 1,
        state_dim: int = 64,
        kernel_size: Any = 4,
        min_step: float = 0.001,
        max_step: float = 0.1,
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
