"""Observation of recurrent layers: their steps, states and activations.

No equations of the cells are repeated here. For one call, a layer's time loop is replaced by the
unrolled loop (`recurrence.unrolled`), in which each state is a tensor that a tape can differentiate
by; its gates are observed by replacing the cell's activations with observers.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn.attention.cell import AttentionCell
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.wrapping import WrappingCell
from kerasrnn.keras_internals import flatten_layers
from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Call, Noise, Options, Weights

Tensor = Any

# The column blocks of Keras's own cells, in order, and their states.
BUILT_IN: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    keras.layers.SimpleRNNCell: (("h",), ("h",)),
    keras.layers.LSTMCell: (("i", "f", "c", "o"), ("h", "c")),
    keras.layers.GRUCell: (("z", "r", "h"), ("h",)),
}


@dataclass
class ObservedCall:
    """One call of a layer; the steps are in the order in which it processed them."""

    layer: keras.layers.RNN
    used: np.ndarray
    """`(time, batch)`, False at masked steps."""

    inputs: list[Tensor] = field(default_factory=list)
    """The input part of each step, `(batch, ...)`."""

    states_before: list[list[Tensor]] = field(default_factory=list)
    states: list[list[Tensor]] = field(default_factory=list)
    """The results of each step: h_t, or h_t and c_t."""

    step: Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]] | None = None
    """One step, from an input part and states to states, with the recurrent products held fixed."""


@dataclass(frozen=True)
class Activations:
    """The activations of a cell at all valid steps."""

    gates: dict[str, np.ndarray]
    """Values of each gate, `(valid steps, units)`."""

    candidate: np.ndarray | None
    """The candidate, after `activation`, `(valid steps, units)`."""

    carries: list[np.ndarray | None]
    """For each state ds_t/ds_{t-1}, `(valid steps, units)`, along the path without a product or an
    activation; None if there is no such path."""


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Every recurrent layer of a model, including those inside other layers."""
    return [layer for layer in flatten_layers(model) if isinstance(layer, keras.layers.RNN)]


def inner_cell(cell: Any) -> Any:
    """The cell with the gates: for a wrapper, its innermost cell."""
    return inner_cell(cell.cell) if isinstance(cell, WrappingCell) else cell


def attention_in(cell: Any) -> AttentionCell | None:
    """The `AttentionCell` among a cell and the cells inside it."""
    if isinstance(cell, AttentionCell):
        return cell
    return attention_in(cell.cell) if isinstance(cell, WrappingCell) else None


def observed_cell(cell: Any) -> Any:
    """The cell whose steps are recorded: the one inside an `AttentionCell`, if any.

    Whatever the wrapper adds enters through the input part, and gradients are only needed for the
    inner cell's own states.
    """
    attention = attention_in(cell)
    return cell if attention is None else attention.cell


def block_names(cell: Any) -> tuple[str, ...]:
    """The blocks of a cell's pre-activations; empty if they are unknown."""
    return cell.gates if isinstance(cell, Cell) else _built_in(cell)[0]


def gate_names(cell: Any) -> tuple[str, ...]:
    """The blocks that are gates, in the order in which a step activates them."""
    if isinstance(cell, Cell):
        return cell.gate_names
    blocks, states = _built_in(cell)
    return tuple(name for name in blocks if name not in states)


def state_names(cell: Any, states: int) -> tuple[str, ...]:
    """Names of a cell's states; h for a single state of an unknown cell."""
    if isinstance(cell, Cell):
        return cell.state_names
    unknown = tuple(f"state {n + 1}" for n in range(states)) if states > 1 else ("h",)
    return _built_in(cell)[1] or unknown


@contextmanager
def watched(model: keras.Model, tape: Any) -> Iterator[list[ObservedCall]]:
    """Within this context, unroll and record the calls of the model's recurrent layers in order.

    Raises:
        ValueError: the states of a layer are not `(batch, units)` each, or it is called inside a
            compiled function.
    """
    calls: list[ObservedCall] = []
    with ExitStack() as stack:
        for layer in recurrent_layers(model):
            observed = observed_cell(layer.cell)
            sizes = 0 if isinstance(observed, Cell) else layer.state_size
            if not all(isinstance(n, int) for n in ([sizes] if isinstance(sizes, int) else sizes)):
                raise ValueError(
                    f"{layer.name}: the states of {type(layer.cell).__name__} have the sizes "
                    f"{sizes}; expected a layer with states of (batch, units), and "
                    "kerasrnn.StackedRNN for stacked cells."
                )
            owner = next(cls for cls in type(layer).__mro__ if "inner_loop" in vars(cls))
            if owner.__module__.split(".")[0] not in ("keras", "kerasrnn"):
                raise ValueError(
                    f"{layer.name}: {type(layer).__name__} overrides `inner_loop`, which is "
                    "replaced to record the steps; expected a layer that does not."
                )
            loop = functools.partial(_recording_loop, layer, tape, calls)
            stack.enter_context(_replaced(layer, {"inner_loop": loop}))
        yield calls


def observe(call: ObservedCall) -> Activations | None:
    """The gates at all valid steps, from one call of the cell with every step as a row.

    None for a cell with unknown activations: one that is neither kerasrnn's nor Keras's.
    """
    cell = inner_cell(call.layer.cell)
    if not isinstance(cell, Cell) and not block_names(cell):
        return None
    import tensorflow as tf

    used = tf.constant(call.used)
    inputs = tf.boolean_mask(tf.stack(call.inputs), used)
    before = [tf.boolean_mask(tf.stack(s), used) for s in zip(*call.states_before, strict=True)]
    observers = {
        name: _Observer(getattr(cell, name))
        for name in ("recurrent_activation", "activation")
        if hasattr(cell, name)
    }
    shown = _GatesObserver()
    if isinstance(cell, Cell):
        observers["observed"] = shown
    with _replaced(cell, observers), tf.GradientTape(persistent=True) as tape:
        tape.watch(before)
        after = call.step(inputs, before)
    carries = [tape.gradient(new, old) for new, old in zip(after, before, strict=True)]
    of_gates, of_others = (
        observers[name].values if name in observers else []
        for name in ("recurrent_activation", "activation")
    )
    of_gates = of_gates or shown.values
    return Activations(
        _blocks(of_gates, cell) if of_gates else {},
        ops.convert_to_numpy(of_others[0]) if of_others else None,
        [None if c is None else ops.convert_to_numpy(c) for c in carries],
    )


class _Observer:
    """An activation that records its values and blocks gradients."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self.activation = activation
        self.values: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        y = ops.stop_gradient(self.activation(x))
        self.values.append(y)
        return y


class _GatesObserver:
    """`Cell.observed`, recording the gates and blocking their gradients."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def __call__(self, *gates: Tensor) -> tuple[Tensor, ...]:
        self.values += map(ops.stop_gradient, gates)
        return tuple(self.values[-len(gates) :])


class _KerasCell:
    """Adapts a foreign cell to the time loop: everything happens in the step."""

    single_read = alters_step = False

    def __init__(self, cell: keras.layers.Layer, output_size: int) -> None:
        self.cell, self.step_output_shape = cell, (output_size,)

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        return x

    def adjoint(self) -> None:
        return None

    def recurrent_products(self, weights: Weights) -> tuple[()]:
        return ()

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[()],
    ) -> tuple[Tensor, list[Tensor]]:
        output, new = self.cell(a, list(states))
        return output, list(new) if isinstance(new, (list, tuple)) else [new]


class _Recorder:
    """A cell that records its steps; the tape watches the states that they compute."""

    is_linear = is_chunked = False  # the steps are run, one after the other

    def __init__(self, cell: Any, tape: Any, call: ObservedCall) -> None:
        self._cell, self._tape, self._call = cell, tape, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cell, name)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        output, new = self._cell.step(a, states, weights, products)
        self._tape.watch(new)
        call = self._call
        call.inputs.append(a)
        call.states_before.append(list(states))
        call.states.append(list(new))
        if call.step is None:
            fixed = tuple(functools.partial(_fixed, product) for product in products)
            call.step = lambda a, states: self._cell.step(a, states, weights, fixed)[1]
        return output, new


def _fixed(product: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    return ops.stop_gradient(product(v))


def _recording_loop(
    layer: keras.layers.RNN,
    tape: Any,
    calls: list[ObservedCall],
    sequences: Tensor,
    initial_state: Any,
    mask: Tensor | None,
    training: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The replacement of a layer's `inner_loop`. No dropout is applied."""
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise ValueError(
            f"{layer.name} is called inside a compiled function; expected an eager call, in which "
            "the gradients of its states can be computed."
        )
    if len(sequences.shape) != 3:
        raise ValueError(
            f"{layer.name} reads sequences of shape {tuple(sequences.shape)}; expected (batch, "
            "time, features)."
        )
    if mask is not None:
        mask = ops.reshape(ops.cast(mask, "bool"), sequences.shape[:2])
    used = np.ones(sequences.shape[:2], bool) if mask is None else ops.convert_to_numpy(mask)
    used = used.T[::-1] if layer.go_backwards else used.T
    call = ObservedCall(layer, used)
    calls.append(call)
    cell, weights, states, memory = layer.cell, {}, list(initial_state), {}
    if isinstance(cell, Cell) and not cell.overrides_call:
        memory = states.pop() if cell.reads_memory else {}
        weights = cell.weights_by_name()
    else:
        cell = _KerasCell(cell, getattr(cell, "output_size", None) or layer.state_size[0])
    # Watched from the beginning: a step with frozen weights is recorded too.
    tape.watch(sequences)
    recorder, attention = _Recorder(observed_cell(cell), tape, call), attention_in(cell)
    with ExitStack() as stack:
        if attention is not None:
            stack.enter_context(_replaced(attention, {"cell": recorder}))
        output, outputs, states, all_states = unrolled.loop(
            recorder if attention is None else cell,
            Options(
                return_sequences=layer.return_sequences,
                go_backwards=layer.go_backwards,
                zero_output_for_mask=layer.zero_output_for_mask,
                truncate_every=getattr(layer, "truncate_every", None),
                return_all_states=getattr(layer, "return_all_states", False),
            ),
            Call(sequences, states, weights, memory, Noise(), mask),
        )
    if all_states is not None:
        layer.collect_states(all_states)
    return (outputs, outputs, states) if output is None else (output, output, states)


def _blocks(values: Sequence[Tensor], cell: Any) -> dict[str, np.ndarray]:
    """The gates' values in one step, by gate: cells compute them in order."""
    arrays = [ops.convert_to_numpy(y) for y in values]
    names = gate_names(cell)
    rows = np.concatenate(arrays, axis=-1)
    if rows.shape[-1] == len(names) * cell.units:
        return dict(zip(names, np.split(rows, len(names), axis=-1), strict=True))
    return {f"gate {n + 1}": array for n, array in enumerate(arrays)}


def _built_in(cell: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for cls, names in BUILT_IN.items():
        if isinstance(cell, cls):
            return names
    return (), ()


@contextmanager
def _replaced(target: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Temporarily replace attributes of an object.

    Bypasses Keras's `__setattr__`, which would track them.
    """
    own = vars(target)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)
