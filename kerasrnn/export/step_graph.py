"""A model's graph, called on one step of its sequences."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.states import map_shapes, named_shapes
from kerasrnn.export import keras_layers, tracing
from kerasrnn.export.explicit_masks import has_explicit_mask
from kerasrnn.export.per_step import acts_per_step, is_keras_activation, is_user_defined
from kerasrnn.keras_internals import nodes_of, run_through_graph
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.joining import JoinedSteps
from kerasrnn.layers.stacked import StackedRNN

Tensor = Any

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.SeparableConv1D,
)
POOLS = (keras.layers.AveragePooling1D, keras.layers.MaxPooling1D)
RECURRENT = (RNN, StackedRNN, keras.layers.RNN, Bidirectional, keras.layers.Bidirectional)

CONSTANT, SEQUENCE, LAST = "the same at all steps", "a sequence", "of the steps so far"


@dataclass(frozen=True)
class Refused:
    """A placeholder for a tensor that a stream does not have, and that may be unused."""

    reason: str


class StepGraph:
    """Calls a model's graph on one step of its sequences: `(batch, 1, ...)`.

    It tracks whether each tensor is a step of a sequence, the same at all steps, or computed from
    all steps so far.

    Args:
        model: the model.
        per_step: names of further layers that act on each step independently.

    Attributes:
        states: an input for each state, in the order of the layers.
        new_states: their values after the step.
    """

    def __init__(self, model: keras.Model, per_step: Collection[str]) -> None:
        self.states: list[Tensor] = []
        self.new_states: list[Tensor] = []
        self.rows = next(x.shape[0] for x in model.inputs)
        self.per_step = per_step
        self.own_objects = keras_layers.own_objects(model)
        self.names: set[str] = set()
        self.copies: dict[tuple[int, Any], Any] = {}
        self.marks: dict[int, tuple[Tensor, str, int]] = {}

    def mark(self, tensors: Any, kind: str, padding: int = 0) -> Any:
        """Record the kind of tensors, and the zero steps in front that the next window covers."""
        for tensor in keras.tree.flatten(tensors):
            self.marks[id(tensor)] = (tensor, kind, padding)
        return tensors

    def kind(self, tensor: Tensor) -> str:
        return self.marks[id(tensor)][1]

    def padding(self, tensor: Tensor) -> int:
        return self.marks[id(tensor)][2]

    def through(self, model: keras.Model, inputs: Any) -> Any:
        return run_through_graph(model, inputs, self._call)

    def _call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        is_layer = isinstance(operation, keras.layers.Layer)
        if is_layer and kwargs.get("mask") is not None:
            if has_explicit_mask(operation):
                raise ValueError(
                    f"{operation.name}: given a mask; expected none, since there is no padding in "
                    "a stream."
                )
            kwargs["mask"] = None
        for x in keras.tree.flatten((args, kwargs)):
            if isinstance(x, Refused):
                if is_layer:
                    raise ValueError(x.reason)
                return x
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if id(x) in self.marks]
        kinds = {self.kind(x) for x in tensors}
        if SEQUENCE not in kinds:
            if LAST in kinds and isinstance(operation, keras.layers.RepeatVector):
                raise ValueError(
                    f"{operation.name}: RepeatVector repeats what is computed from the "
                    "whole sequence, which a stream does not have."
                )
            if isinstance(operation, keras.layers.RepeatVector) and kinds:
                return self.mark(ops.expand_dims(args[0], 1), SEQUENCE)
            results = self._copy(operation, _stateless)(*args, **kwargs)
            return self.mark(results, LAST if LAST in kinds else CONSTANT)
        if _is_graph(operation):
            return self.through(operation, args[0])
        if LAST in kinds:
            raise ValueError(
                f"{operation.name}: {type(operation).__name__} combines each step with values "
                "computed from the whole sequence, which a stream does not have."
            )
        return self._on_steps(operation, tensors, args, kwargs)

    def _on_steps(
        self, operation: Any, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        kind, name = type(operation), operation.name
        if isinstance(operation, (Bidirectional, keras.layers.Bidirectional)) or getattr(
            operation, "go_backwards", False
        ):
            raise ValueError(
                f"{name}: {kind.__name__} reads the sequence from its end, which a stream does not "
                "have; expected layers that read the sequence forwards."
            )
        if isinstance(operation, (RNN, StackedRNN)) or kind in keras_layers.RECURRENT:
            self._check_no_padding(operation, tensors)
            return self._recurrent(operation, *args, **kwargs)
        if kind in CONVOLUTIONS or kind in POOLS:
            return self._window(operation, args[0])
        if kind is keras.layers.ZeroPadding1D:
            before, after = operation.padding
            if after:
                raise ValueError(
                    f"{name}: ZeroPadding1D with padding={(before, after)} adds steps after the "
                    "sequence; expected 0 there, since a stream has no end."
                )
            return self.mark(ops.copy(args[0]), SEQUENCE, self.padding(args[0]) + before)
        self._check_no_padding(operation, tensors)
        if kind is JoinedSteps:  # repeats the vectors that are the same at all steps
            return self.mark(self._copy(operation, _unmasked)(*args, **kwargs), SEQUENCE)
        for x in tensors:
            ranks = {len(y.shape) for y in tensors}
            if self.kind(x) == CONSTANT and (len(x.shape) < max(ranks) or x.shape[1] != 1):
                raise ValueError(
                    f"{name}: combines a sequence with a tensor of the shape {tuple(x.shape)}, "
                    "which is the same at all steps; expected (batch, 1, ...)."
                )
        if isinstance(operation, keras.layers.Reshape):
            return self.mark(self._reshape(operation)(*args, **kwargs), SEQUENCE)
        constants = [x for x in keras.tree.flatten((args, kwargs)) if id(x) not in self.marks]
        independent = operation.name in self.per_step or acts_per_step(
            operation, len(tensors[0].shape), constants
        )
        if not independent:
            reason = (
                f"{name}: {kind.__name__} is not known to act on each step independently, or to "
                "read a window of past steps"
            )
            if not isinstance(operation, keras.layers.Layer):
                return Refused(f"{reason}.")  # it may be part of an unused mask
            if is_user_defined(operation):
                reason += f"; if it acts on each step independently, pass per_step=[{name!r}]"
            raise ValueError(f"{reason}.")
        return self.mark(self._copy(operation, _unmasked)(*args, **kwargs), SEQUENCE)

    def _reshape(self, layer: keras.layers.Reshape) -> Any:
        """A reshape of each step, if possible."""
        (node,) = nodes_of(layer)[:1]
        before, after = node.input_tensors[0].shape, node.outputs[0].shape
        if before[1] != after[1] or None in before[2:] or np.prod(before[2:]) != np.prod(after[2:]):
            raise ValueError(
                f"{layer.name}: Reshape from {tuple(before)} to {tuple(after)} does not keep the "
                "steps; expected (batch, time, ...) with as many elements per step."
            )
        return self._copy(layer, _unmasked, target_shape=(1, *after[2:]))

    def _check_no_padding(self, operation: Any, tensors: list[Tensor]) -> None:
        padding = max(map(self.padding, tensors))
        if padding:
            raise ValueError(
                f"{operation.name}: {type(operation).__name__} reads a sequence with {padding} "
                "steps of padding in front; expected a convolution or a pooling whose window "
                "covers them."
            )

    def _window(self, layer: Any, x: Tensor) -> Tensor:
        """A layer that processes a window of the last steps: they are its state."""
        kind, padding, config = type(layer).__name__, self.padding(x), layer.get_config()
        if kind.endswith("Conv1D"):
            size, strides = layer.kernel_size[0], layer.strides[0]
            before = (size - 1) * layer.dilation_rate[0]
        else:
            size, strides = config["pool_size"], config["strides"]
            size, strides = (v[0] if isinstance(v, (list, tuple)) else v for v in (size, strides))
            before = size - 1
        if config["padding"] == "causal":
            padding += before
        elif config["padding"] == "same" and before:
            padding = -1
        if not is_keras_activation(getattr(layer, "activation", None) or keras.activations.linear):
            raise ValueError(
                f"{layer.name}: {kind} with a custom activation, which may mix steps; "
                "expected one of Keras's, or a separate layer after it."
            )
        if strides != 1 or layer.data_format != "channels_last" or padding != before:
            causal = "padding='causal' or " if isinstance(layer, keras.layers.Conv1D) else ""
            raise ValueError(
                f"{layer.name}: {kind} with padding={config['padding']!r} and strides={strides} "
                f"does not compute one output per step, from this step and the {before} before "
                f"it; expected strides=1 and {causal}padding='valid' after "
                f"ZeroPadding1D(({before}, 0))."
            )
        copy = self._copy(layer, _unmasked, padding="valid")
        if not before:
            return self.mark(copy(x), SEQUENCE)
        name = self._free(f"{layer.name}_window")
        state = keras.Input(batch_shape=(self.rows, before, x.shape[-1]), dtype=x.dtype, name=name)
        window = ops.concatenate([state, x], axis=1)
        self._add_state(state, window[:, 1:])
        return self.mark(copy(window), SEQUENCE)

    def _recurrent(self, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or any(kwargs.get(name) is not None for name in ("initial_state", "memory")):
            raise ValueError(
                f"{layer.name}: given its initial state, or a memory to attend to, by other "
                "layers; expected a layer that starts from initial states of its own."
            )
        for each in layer.layers if isinstance(layer, StackedRNN) else ():
            if isinstance(each, (Bidirectional, keras.layers.Bidirectional)):
                raise ValueError(f"{layer.name}: {each.name} reads the sequence from its end.")
        returned, sequences = layer.return_state, layer.return_sequences
        cell = getattr(layer, "cell", None)
        ours = type(layer) in tracing.LAYERS or type(cell) in tracing.CELLS
        if cell is None or isinstance(cell, Cell) or ours:
            copy = self._copy(layer, _for_steps, f"{layer.name}_step", return_state=True)
            states = [self._state(layer, *each, x) for each in _named_shapes(copy)]
            # The states of the stream are relative to the layer's initial ones: it begins at zero.
            start = [
                ops.convert_to_numpy(s)[0] for s in keras.tree.flatten(copy.get_initial_state(1))
            ]
            flat = iter(_added(states, start, 1))
            packed = map_shapes(lambda _: next(flat), _state_shapes(copy))
            y, *new = copy(x, initial_state=packed)
            after = _added(keras.tree.flatten(new), start, -1)
        else:  # a foreign cell, or a list of cells, runs in Keras's own loop
            copy = self._copy(cell, _stateless)
            sizes = list(enumerate(keras.tree.flatten(cell.state_size)))
            states = [self._state(layer, f"state_{n}", (size,), x) for n, size in sizes]
            structure = cell.state_size
            packed = (
                keras.tree.pack_sequence_as(structure, states)
                if isinstance(structure, (list, tuple))
                else states
            )
            y, new = copy(ops.squeeze(x, 1), packed)
            y, after = ops.expand_dims(y, 1) if sequences else y, keras.tree.flatten(new)
        for state, value in zip(states, after, strict=True):
            self._add_state(state, value)
        self.mark(y, SEQUENCE if sequences else LAST)
        results = [y]
        if getattr(layer, "return_all_states", False):
            of_step = [ops.expand_dims(state, 1) for state in keras.tree.flatten(new)]
            results += self.mark(of_step, SEQUENCE)
        if returned:
            results += self.mark(list(keras.tree.flatten(new)), LAST)
        return tuple(results) if len(results) > 1 else y

    def _state(self, layer: Any, name: str, shape: tuple[int, ...], x: Tensor) -> Tensor:
        name = self._free(f"{layer.name}_{name}")
        return keras.Input(batch_shape=(self.rows, *shape), dtype=layer.compute_dtype, name=name)

    def _add_state(self, state: Tensor, after: Tensor) -> None:
        self.states.append(state)
        self.new_states.append(keras.layers.Identity(name=f"{state.name}_next")(after))

    def _copy(
        self,
        operation: Any,
        rewrite: Callable[[dict[str, Any]], None],
        name: str | None = None,
        **changes: Any,
    ) -> Any:
        """A separate layer with the same weights; an operation without weights is shared."""
        if not isinstance(operation, keras.layers.Layer):
            return operation
        key = (id(operation), rewrite)
        if key not in self.copies:
            changes["name"] = self._free(name or operation.name)
            self.copies[key] = keras_layers.rewritten(operation, rewrite, changes, self.own_objects)
        return self.copies[key]

    def _free(self, name: str) -> str:
        """The name, numbered if it is taken by a second call or inside a model."""
        n, wanted = 2, name
        while name in self.names:
            name = f"{wanted}_{n}"
            n += 1
        self.names.add(name)
        return name


def _stateless(part: dict[str, Any]) -> None:
    if "stateful" in part["config"]:
        part["config"]["stateful"] = False


def _unmasked(part: dict[str, Any]) -> None:
    """Remove masks from a configuration: a stream has no padding."""
    _stateless(part)
    config = part["config"]
    if part["class_name"] == "Masking":
        part["class_name"] = "Identity"
        del config["mask_value"]
    elif part["class_name"] == "BatchedTimeDistributed":
        config["padding"] = None
    elif "mask_zero" in config:
        config["mask_zero"] = False


def _for_steps(part: dict[str, Any]) -> None:
    """Change a recurrent layer's configuration to a single step, without a loop."""
    keras_layers.ours(part)
    _unmasked(part)
    config = part["config"]
    if "unroll" in config:
        config["unroll"] = True
        for name in ("checkpoint_every", "truncate_every", "return_all_states"):
            config.pop(name, None)


def _is_graph(operation: Any) -> bool:
    """Whether it is a model whose layers can be called one by one."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _state_shapes(layer: RNN | StackedRNN) -> list[Any]:
    return layer.state_shapes if isinstance(layer, StackedRNN) else layer.cell.state_shapes


def _added(states: list[Tensor], start: list[np.ndarray], sign: int) -> list[Tensor]:
    """The states plus or minus the initial ones, as far as these are not zero."""
    return [
        ops.cast(state + sign * initial, state.dtype) if np.any(initial) else state
        for state, initial in zip(states, start, strict=True)
    ]


def _named_shapes(layer: RNN | StackedRNN) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names of a layer's states, and their shapes without the batch axis."""
    if isinstance(layer, StackedRNN):
        for n, each in enumerate(layer.layers):
            yield from ((f"{n}_{name}", shape) for name, shape in _named_shapes(each))
    else:
        yield from named_shapes(layer.cell.state_names, layer.cell.state_shapes)
