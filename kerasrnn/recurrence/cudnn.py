"""LSTM and GRU on cuDNN's kernels: when they can run there, their weights, and their masks.

The kernels compute ONNX's operators LSTM, and GRU with `linear_before_reset`, with their default
activations. A cell whose `onnx_operator` is one of these can run there; a subclass that changes the
equations does not inherit the operator. In the notation of NVIDIA's documentation, LSTM is

    i_t = sigmoid(W_i x_t + R_i h_{t-1} + b_Wi + b_Ri), and f_t and o_t likewise
    c'_t = tanh(W_c x_t + R_c h_{t-1} + b_Wc + b_Rc)
    c_t = f_t * c_{t-1} + i_t * c'_t
    h_t = o_t * tanh(c_t)

and GRU is

    i_t = sigmoid(W_i x_t + R_i h_{t-1} + b_Wi + b_Ri), and r_t likewise
    h'_t = tanh(W_h x_t + b_Wh + r_t * (R_h h_{t-1} + b_Rh))
    h_t = (1 - i_t) * h'_t + i_t * h_{t-1}

A kernel processes the first steps of each row, at least one; its outputs on the others are zero.
Therefore the valid steps of a mask are moved to the front, in the order of computation, and the
outputs are moved back.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from kerasrnn.recurrence.backend import CudnnBackend
from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable

Tensor = Any
Mode = Literal["lstm", "gru"]

GATES: dict[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""cuDNN's gates, i, f, c', o and r, i, h', as indices of those of the ONNX operator: i, o, f, c and
z, r, h."""

SIGMOID = (keras.activations.sigmoid, ops.sigmoid)
TANH = (keras.activations.tanh, ops.tanh)


def runs(
    cell: Steppable,
    options: Options,
    call: Call,
    jit_compile: JitCompile,
    refusal_of_backend: Callable[[Mode, Call], str | None],
) -> bool:
    """Whether a call runs in cuDNN: with "auto", wherever it can.

    Args:
        cell: the cell.
        options: see `Options`.
        call: see `Call`.
        jit_compile: that of the layer.
        refusal_of_backend: `cudnn_refusal` of a `CudnnBackend`.

    Raises:
        ValueError: `use_cudnn=True`, and cuDNN cannot run the call.
    """
    if options.use_cudnn is False:
        return False
    reason = refusal(cell, options, jit_compile) or _refusal_of_call(call)
    reason = reason or refusal_of_backend(_mode(cell), call)
    if reason and options.use_cudnn is True:
        raise ValueError(
            f"use_cudnn=True: {type(cell).__name__} cannot run in cuDNN here: {reason}; expected "
            "'auto', which runs kerasrnn's own loop where cuDNN cannot, or False. For an existing "
            "layer, set its attribute `use_cudnn`."
        )
    return reason is None


def refusal(cell: Steppable, options: Options, jit_compile: JitCompile) -> str | None:
    """Why cuDNN can never run a cell with these options; None if it can."""
    operator = getattr(cell, "onnx_operator", None)
    if operator is None or operator.name not in GATES or operator.peepholes:
        return "its equations are not those of cuDNN's LSTM or GRU"
    if cell.alters_step:
        return "an option, such as zoneout, changes its equations"
    gate, *others = operator.activations
    if gate not in SIGMOID or any(activation not in TANH for activation in others):
        names = [getattr(of, "__name__", repr(of)) for of in (gate, others[0])]
        return (
            f"recurrent_activation and activation are {' and '.join(names)}, and cuDNN's are "
            "sigmoid and tanh"
        )
    if operator.name == "GRU" and not operator.linear_before_reset:
        return "reset_after=False"
    for name in ("unroll", "checkpoint_every", "truncate_every", "return_all_states"):
        value = getattr(options, name)
        if value:
            return f"{name}={value!r}"
    if jit_compile is True:
        return "jit_compile=True compiles kerasrnn's own loop"
    return None


def _refusal_of_call(call: Call) -> str | None:
    noise = call.noise
    if len(noise.sequences.get("inputs", [])) > 1:
        return "implementation=1 draws one dropout mask of the inputs for each gate"
    if noise.weights or noise.steps or noise.sequences.keys() - {"inputs"}:
        return "recurrent_dropout or other noise within the steps"
    if call.sequences.shape[0] == 0:
        return "the batch has no rows"
    return None


def loop(backend: CudnnBackend, cell: Steppable, options: Options, call: Call) -> Results:
    """Run a cell over time in cuDNN, with the results of `loop.run`."""
    x, mask = call.sequences, call.mask
    for dropped in call.noise.sequences.get("inputs", []):
        x = x * ops.expand_dims(dropped, 1)
    if options.go_backwards:
        x, mask = ops.flip(x, 1), None if mask is None else ops.flip(mask, 1)
    front = lengths = None
    if mask is not None:
        front = Front.of(mask)
        x, lengths = backend.take_steps(x, front.order), front.lengths
    states = [ops.cast(state, x.dtype) for state in call.states]
    outputs, finals = backend.cudnn_kernel(
        _mode(cell), x, states, parameters(cell, call.weights), lengths
    )
    if front is None:
        shown, output = outputs, finals[0]
    else:
        shown, output, finals = front.restored(backend, options, outputs, finals, states)
    return Results(*(None, shown) if options.return_sequences else (output, None), finals)


def parameters(cell: Steppable, weights: dict[str, Any]) -> Tensor:
    """A cell's weights in cuDNN's layout: W and R gate by gate, each transposed, then b_W and b_R.

    A cell with one bias has no b_R, and one with `use_bias=False` neither.
    """
    operator = cell.onnx_operator

    def blocks(matrix: Tensor) -> list[Tensor]:
        of_operator = operator.blocks(cell.gates, matrix)
        return [of_operator[k] for k in GATES[operator.name]]

    matrices = [*blocks(weights["kernel"]), *blocks(weights["recurrent_kernel"])]
    nothing = ops.zeros_like(weights["recurrent_kernel"][0])
    bias = weights.get("bias")
    if bias is None:
        biases = (nothing, nothing)
    else:
        biases = (bias, nothing) if len(bias.shape) == 1 else (bias[0], bias[1])
    flat = [ops.reshape(ops.transpose(matrix), (-1,)) for matrix in matrices]
    return ops.concatenate([*flat, *blocks(biases[0]), *blocks(biases[1])])


class Front(NamedTuple):
    """The steps of masked sequences with the valid ones first, all in the order of computation."""

    mask: Tensor
    """`(batch, time)`"""

    read: Tensor
    """`(batch, time)`, int32: the number of valid steps up to and including this one."""

    order: Tensor
    """`(batch, time)`, int32: the indices of the valid steps, then those of the others."""

    lengths: Tensor
    """`(batch,)`, int32: the number of valid steps, at least 1."""

    @classmethod
    def of(cls, mask: Tensor) -> "Front":
        used = ops.cast(mask, "int32")
        read = ops.cumsum(used, axis=1)
        number = read[:, -1:]
        time = ops.arange(ops.shape(mask)[1], dtype="int32")
        # Each step's place. Sorting the mask itself would depend on the order of equal values.
        place = ops.where(mask, read - 1, number + time - read)
        order = ops.cast(ops.argsort(place, axis=1), "int32")
        lengths = ops.cast(ops.maximum(number[:, 0], 1), "int32")
        return cls(mask, read, order, lengths)

    def restored(
        self,
        backend: CudnnBackend,
        options: Options,
        outputs: Tensor,
        finals: list[Tensor],
        states: list[Tensor],
    ) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        """The outputs in their places, the last output, and the final states.

        A masked step repeats the previous output, or is zero; a row without valid steps keeps its
        initial states.
        """
        started = self.read > 0
        shown = self.mask if options.zero_output_for_mask else started
        nothing = ops.zeros_like(finals[0])
        last = ops.where(shown[:, -1:], finals[0], nothing)
        finals = [
            ops.where(started[:, -1:], final, state)
            for final, state in zip(finals, states, strict=True)
        ]
        if not options.return_sequences:
            return None, last, finals
        outputs = backend.take_steps(outputs, ops.maximum(self.read - 1, 0))
        outputs = ops.where(ops.expand_dims(shown, -1), outputs, ops.zeros_like(outputs))
        return outputs, last, finals


def _mode(cell: Steppable) -> Mode:
    return "lstm" if cell.onnx_operator.name == "LSTM" else "gru"
