"""Written by `python -m tests.generated`."""

from typing import Any, Literal

from kerasrnn.cells.chunked_cell import ChunkedCell
from kerasrnn.cells.layer import Recurrent

class MLSTMCell(ChunkedCell):
    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        heads: int = 1,
        chunk_size: int = 64,
        forget_gate: Literal["sigmoid", "exponential"] = "sigmoid",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None: ...

class MLSTM(Recurrent):
    def __init__(
        self,
        units: int,
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
        forget_gate: Literal["sigmoid", "exponential"] = "sigmoid",
        unit_forget_bias: bool = True,
        *,
        zero_output_for_mask: bool = False,
        jit_compile: Literal["auto"] | bool = "auto",
        checkpoint_every: int | Literal["sqrt"] | None = None,
        truncate_every: int | None = None,
        learn_initial_state: bool = False,
        return_all_states: bool = False,
        **kwargs: Any,
    ) -> None: ...
