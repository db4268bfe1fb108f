"""One step of a model, for streams, where a sequence arrives in parts and never ends."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import RNN
from kerasrnn.cells.states import map_shapes, named_shapes
from kerasrnn.export import keras_layers, parity, signature, tracing
from kerasrnn.export.parity import ParityError
from kerasrnn.keras_internals import get_keras_mask, made_by, nodes_of, run_through_graph
from kerasrnn.layers.batched_time_distributed import BatchedTimeDistributed
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.joining import JoinedSteps
from kerasrnn.layers.stacked import StackedRNN
from kerasrnn.validation import NonNegativeNumber

Tensor = Any

# Layers that act on each step of (batch, time, ...) independently, for any arguments;
# `_Walk._is_per_step` handles those that depend on their arguments. Unknown layers are rejected.
PER_STEP = (
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Average,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.Masking,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
    keras.layers.Subtract,
    keras.layers.TimeDistributed,
    BatchedTimeDistributed,
)


# Layers that do so unless one of their axes is the time axis.
PER_STEP_BUT_AXES = {
    keras.layers.BatchNormalization: "axis",
    keras.layers.Concatenate: "axis",
    keras.layers.LayerNormalization: "axis",
    keras.layers.Normalization: "axis",
    keras.layers.RMSNormalization: "axis",
    keras.layers.Softmax: "axis",
    keras.layers.UnitNormalization: "axis",
}

# keras.ops in a functional model that act on single elements.
ELEMENTWISE = (
    *("Absolute", "Add", "Cast", "Clip", "Cos", "Divide", "Elu", "Equal", "Exp", "Expm1", "Floor"),
    *("Gelu", "Greater", "GreaterEqual", "LeakyRelu", "Less", "LessEqual", "Log", "Log10", "Log1p"),
    *("LogicalAnd", "LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mod", "Multiply", "Negative"),
    *("NotEqual", "Power", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Silu", "Sin", "Sqrt"),
    *("Softplus", "Softsign", "Square", "Subtract", "Tanh", "TrueDivide", "Where"),
)

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.SeparableConv1D,
)
POOLS = (keras.layers.AveragePooling1D, keras.layers.MaxPooling1D)
RECURRENT = (RNN, StackedRNN, keras.layers.RNN, Bidirectional, keras.layers.Bidirectional)


@validation.checked
def to_step(
    model: keras.Model,
    check: bool = True,
    tolerance: NonNegativeNumber | None = None,
    per_step: Collection[str] = (),
) -> keras.Model:
    """Convert a model to its step, which is also a model: `(x_t, states) -> (y_t, new_states)`.

    Its inputs are those of one step, `(batch, ...)`, then the states in the order of the layers:
    each state of a recurrent layer, `(batch, units)`, and the last inputs of each layer with a
    window, `(batch, steps, features)`. Its outputs are the model's at that step (for a layer that
    returns only its last output: the output if the sequence ended there), then the new states.
    Inputs and outputs are named after the model's, with `_t`; a state is named after its layer and
    itself (`gru_h`, `conv1d_window`), and its new value with `_next`. A stream begins with zero
    states.

    The step is an ordinary model with separate weights: `to_onnx`, `to_saved_model` and `to_litert`
    export it. A fixed batch size of the model also applies to the step.

    The following have a step:

    - recurrent layers, Keras's or kerasrnn's, without `go_backwards` and with zero initial states;
      also `stateful` ones;
    - a causal `Conv1D` with strides 1, dilated or not; `Conv1D`, `DepthwiseConv1D`,
      `SeparableConv1D`, `AveragePooling1D` and `MaxPooling1D` with padding "valid" and strides 1
      after a `ZeroPadding1D` that adds the same number of steps in front and none at the end;
    - layers that act on each step independently: `Dense`, `Embedding`, activations, dropout,
      normalization and concatenation over other axes, merging, `TimeDistributed`,
      `BatchedTimeDistributed`, a `Reshape` that preserves the steps, `keras.ops` of single
      elements, models of such layers;
    - any layer after one that returns only its last output.

    Everything else is rejected: bidirectional layers, pooling, attention and normalization over
    time, windows that include later steps, unknown layers.

    Masking: a stream has no padding; do not feed masked steps.

    Args:
        model: a functional or Sequential model. Its sequences are the inputs with an unknown second
            axis, `(batch, None, ...)`; if there are none, those whose second axis has the length of
            the sequences of its recurrent layers. Its other inputs are constant over the steps.
        check: whether to compare the steps' outputs with the model's, on random sequences.
        tolerance: the largest difference accepted, see `to_onnx`.
        per_step: names of your own layers that act on each step of `(batch, time, ...)`
            independently.

    Raises:
        ParityError: the difference exceeds the tolerance.
        ValueError: a layer has no step; no input has a time axis; a layer receives an initial
            state; no layer has a state; a name in `per_step` is unknown.

    Example: an accumulating model, fed number by number.

        >>> import keras, numpy as np, kerasrnn
        >>> model = keras.Sequential(
        ...     [keras.Input((None, 1)), kerasrnn.GRU(4, return_sequences=True, name="gru")])
        >>> step = kerasrnn.export.to_step(model)
        >>> step.inputs[1].name, step.output_names[1]
        ('gru_h', 'gru_h_next')
        >>> h = np.zeros((1, 4), "float32")
        >>> for x in (0.5, 2.0):
        ...     y, h = step.predict_on_batch([np.full((1, 1), x, "float32"), h])
        >>> whole = model(np.array([[[0.5], [2.0]]], "float32"))
        >>> bool(np.allclose(y, whole[:, -1], atol=1e-6))
        True
    """
    names, tensors = signature.inputs(model)
    if isinstance(per_step, (str, bytes)) or not isinstance(per_step, Collection):
        raise ValueError(f"per_step={per_step!r}: expected a collection of names of layers.")
    unknown = set(per_step) - {layer.name for layer in tracing.layers_of(model)}
    if unknown:
        raise ValueError(
            f"per_step={sorted(per_step)}: model {model.name!r} has no layer {unknown.pop()!r}."
        )
    timed = _sequences(model)
    if not any(timed):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(
            f"model {model.name!r} has inputs of {shapes}; expected one of (batch, time, ...), "
            "whose steps arrive one by one and are processed by a layer with a state."
        )
    walk = _Walk(model, per_step)
    steps, inputs = [], []
    for name, tensor, has_time in zip(names, tensors, timed, strict=True):
        shape = (tensor.shape[0], *tensor.shape[2 if has_time else 1 :])
        steps.append(keras.Input(batch_shape=shape, dtype=tensor.dtype, name=f"{name}_t"))
        x = ops.expand_dims(steps[-1], 1) if has_time else steps[-1]
        inputs.append(walk.mark(x, SEQUENCE if has_time else CONSTANT))
    outputs = keras.tree.flatten(walk.through(model, inputs))
    if not walk.states:
        raise ValueError(
            f"model {model.name!r} has no layer with a state; expected a recurrent layer, or a "
            "causal convolution."
        )
    at_step = []
    for name, y in zip(signature.output_names(model), outputs, strict=True):
        if isinstance(y, _Refused):
            raise ValueError(y.reason)
        if walk.padding(y):
            raise ValueError(
                f"output {name!r}: has more steps than its sequence; expected a convolution or a "
                "pooling after ZeroPadding1D, whose window covers them."
            )
        y_t = ops.squeeze(y, 1) if walk.kind(y) == SEQUENCE else y
        at_step.append(keras.layers.Identity(name=f"{name}_t")(y_t))
    result = keras.Model(
        [*steps, *walk.states], [*at_step, *walk.new_states], name=f"{model.name}_step"
    )
    if check:
        has_time = [walk.kind(y) == SEQUENCE for y in outputs]
        _check(model, result, timed, has_time, tolerance)
    return result


CONSTANT, SEQUENCE, LAST = "the same at all steps", "a sequence", "of the steps so far"


def _sequences(model: keras.Model) -> list[bool]:
    """Which of the inputs arrive step by step."""
    tensors = model.inputs
    unknown = [len(x.shape) > 1 and x.shape[1] is None for x in tensors]
    if any(unknown):
        return unknown
    lengths = {
        node.input_tensors[0].shape[1]
        for layer in tracing.layers_of(model)
        if isinstance(layer, (*RECURRENT, *CONVOLUTIONS, keras.layers.ZeroPadding1D))
        for node in nodes_of(layer)
        if node.input_tensors
    }
    fitting = [
        len(x.shape) > 1 and x.shape[1] in lengths and (len(x.shape) > 2 or "int" in x.dtype)
        for x in tensors
    ]
    return fitting if any(fitting) else [len(x.shape) > 2 for x in tensors]


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
        for name in ("checkpoint_every", "truncate_every"):
            config.pop(name, None)


@dataclass(frozen=True)
class _Refused:
    """A placeholder for a tensor that a stream does not have, and that may be unused."""

    reason: str


class _Walk:
    """Calls a model's graph on one step of its sequences: `(batch, 1, ...)`.

    It tracks whether each tensor is a step of a sequence, the same at all steps, or computed from
    all steps so far.
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
            if _is_given_a_mask(operation):
                raise ValueError(
                    f"{operation.name}: given a mask; expected none, since there is no padding in "
                    "a stream."
                )
            kwargs["mask"] = None
        for x in keras.tree.flatten((args, kwargs)):
            if isinstance(x, _Refused):
                if is_layer:
                    raise ValueError(x.reason)
                return x
        given = [x for x in keras.tree.flatten((args, kwargs)) if id(x) in self.marks]
        kinds = {self.kind(x) for x in given}
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
        return self._on_steps(operation, given, args, kwargs)

    def _on_steps(
        self, operation: Any, given: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        kind, name = type(operation), operation.name
        if isinstance(operation, (Bidirectional, keras.layers.Bidirectional)) or getattr(
            operation, "go_backwards", False
        ):
            raise ValueError(
                f"{name}: {kind.__name__} reads the sequence from its end, which a stream does not "
                "have; expected layers that read forwards."
            )
        if isinstance(operation, (RNN, StackedRNN)) or kind in keras_layers.RECURRENT:
            self._check_no_padding(operation, given)
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
        self._check_no_padding(operation, given)
        if kind is JoinedSteps:  # repeats the vectors that are the same at all steps
            return self.mark(self._copy(operation, _unmasked)(*args, **kwargs), SEQUENCE)
        for x in given:
            ranks = {len(y.shape) for y in given}
            if self.kind(x) == CONSTANT and (len(x.shape) < max(ranks) or x.shape[1] != 1):
                raise ValueError(
                    f"{name}: combines a sequence with a tensor of the shape {tuple(x.shape)}, "
                    "which is the same at all steps; expected (batch, 1, ...)."
                )
        if isinstance(operation, keras.layers.Reshape):
            return self.mark(self._reshape(operation)(*args, **kwargs), SEQUENCE)
        if not self._is_per_step(operation, given, (args, kwargs)):
            reason = (
                f"{name}: {kind.__name__} is not known to act on each step independently, or to "
                "read a window of past steps"
            )
            if not isinstance(operation, keras.layers.Layer):
                return _Refused(f"{reason}.")  # it may be part of an unused mask
            if _is_a_users(operation):
                reason += f"; if it acts on each step independently, pass per_step=[{name!r}]"
            raise ValueError(f"{reason}.")
        return self.mark(self._copy(operation, _unmasked)(*args, **kwargs), SEQUENCE)

    def _is_per_step(self, operation: Any, given: list[Tensor], arguments: Any) -> bool:
        kind, rank = type(operation), len(given[0].shape)
        if operation.name in self.per_step:
            return True
        if kind in (keras.layers.Activation, keras.layers.Dense):
            # In (batch, time), the last axis is the time axis.
            return rank > 2 and _is_known(operation.activation)
        if kind is keras.layers.Rescaling:
            return max(np.ndim(operation.scale), np.ndim(operation.offset)) <= (rank > 2)
        if kind is keras.layers.PReLU:
            return 1 in (operation.shared_axes or ())
        if kind in PER_STEP_BUT_AXES:
            return _spares_time(getattr(operation, PER_STEP_BUT_AXES[kind]), rank)
        if isinstance(operation, keras.layers.Layer):
            return kind in PER_STEP
        if kind.__name__ in ("Concatenate", "Softmax", "LogSoftmax"):
            return _spares_time(operation.axis, rank)
        constants = [x for x in keras.tree.flatten(arguments) if id(x) not in self.marks]
        shapes = [tuple(x.shape) for x in constants if hasattr(x, "shape")]
        same_at_all_steps = all(len(s) < rank - 1 or s[1 - rank] == 1 for s in shapes)
        return kind.__name__ in ELEMENTWISE and same_at_all_steps

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

    def _check_no_padding(self, operation: Any, given: list[Tensor]) -> None:
        padding = max(map(self.padding, given))
        if padding:
            raise ValueError(
                f"{operation.name}: {type(operation).__name__} reads a sequence with {padding} "
                "more steps in front; expected a convolution or a pooling whose window takes them "
                "up."
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
        if not _is_known(getattr(layer, "activation", None) or keras.activations.linear):
            raise ValueError(
                f"{layer.name}: {kind} with an activation of your own, which may mix steps; "
                "expected one of Keras's, or a separate layer after it."
            )
        if strides != 1 or layer.data_format != "channels_last" or padding != before:
            causal = "padding='causal' or " if isinstance(layer, keras.layers.Conv1D) else ""
            raise ValueError(
                f"{layer.name}: {kind} with padding={config['padding']!r} and strides={strides} "
                f"does not have one output for each step, of this one and the {before} before; "
                f"expected strides=1 and {causal}padding='valid' after "
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
                "layers; expected a layer with zero initial states."
            )
        for each in layer.layers if isinstance(layer, StackedRNN) else ():
            if isinstance(each, (Bidirectional, keras.layers.Bidirectional)):
                raise ValueError(f"{layer.name}: {each.name} reads the sequence from its end.")
        returned, sequences = layer.return_state, layer.return_sequences
        cell = getattr(layer, "cell", None)
        if cell is None or isinstance(cell, Cell) or type(cell) in tracing.CELLS:
            copy = self._copy(layer, _for_steps, f"{layer.name}_step", return_state=True)
            states = [self._state(layer, *each, x) for each in _named_shapes(copy)]
            given = iter(states)
            packed = map_shapes(lambda _: next(given), _state_shapes(copy))
            y, *new = copy(x, initial_state=packed)
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
            y = ops.expand_dims(y, 1) if sequences else y
        for state, after in zip(states, keras.tree.flatten(new), strict=True):
            self._add_state(state, after)
        self.mark(y, SEQUENCE if sequences else LAST)
        return (y, *self.mark(list(keras.tree.flatten(new)), LAST)) if returned else y

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


def _is_graph(operation: Any) -> bool:
    """Whether it is a model whose layers can be called one by one."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _is_given_a_mask(layer: keras.layers.Layer) -> bool:
    """Whether it is called with a mask other than that of its sequences."""
    for node in nodes_of(layer):
        mask = node.arguments.kwargs.get("mask")
        carried = [get_keras_mask(x) for x in node.input_tensors]
        if any(
            m is not None and not any(_is_the_same(m, c) for c in carried)
            for m in keras.tree.flatten(mask)
        ):
            return True
    return False


def _is_the_same(one: Any, other: Any) -> bool:
    """Whether two symbolic tensors are the same function of the same tensors.

    In a model that was saved and loaded, layers receive masks that are computed by separate
    operations, besides those attached to the tensors.
    """
    if one is other:
        return True
    if not isinstance(one, keras.KerasTensor) or not isinstance(other, keras.KerasTensor):
        return type(one) is type(other) and one == other
    (made, arguments), (other_made, other_arguments) = made_by(one), made_by(other)
    if made is not other_made:
        if isinstance(made, keras.layers.Layer) or type(made) is not type(other_made):
            return False
        if _options(made) != _options(other_made):
            return False
    parts, other_parts = keras.tree.flatten(arguments), keras.tree.flatten(other_arguments)
    return len(parts) == len(other_parts) and all(map(_is_the_same, parts, other_parts))


def _options(operation: Any) -> dict[str, Any]:
    """The configuration of an operation that is not a layer, without its name."""
    return {
        name: value
        for name, value in vars(operation).items()
        if name != "name" and not name.startswith("_")
    }


def _is_a_users(layer: keras.layers.Layer) -> bool:
    """Whether its class or its function is defined by a user."""
    function = getattr(layer, "activation", getattr(layer, "function", None))
    house = type(layer).__module__.split(".")[0]
    return house not in ("keras", "kerasrnn") or not (function is None or _is_known(function))


def _is_known(activation: Any) -> bool:
    """Whether a function is one of Keras's activations, none of which mixes steps."""
    return any(activation is known for known in vars(keras.activations).values())


def _spares_time(axes: Any, rank: int) -> bool:
    """Whether none of the axes is the time axis."""
    if axes is None:
        return True
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    return all(axis % rank not in (0, 1) for axis in axes)


def _state_shapes(layer: RNN | StackedRNN) -> list[Any]:
    return layer.state_shapes if isinstance(layer, StackedRNN) else layer.cell.state_shapes


def _named_shapes(layer: RNN | StackedRNN) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names of a layer's states, and their shapes without the batch axis."""
    if isinstance(layer, StackedRNN):
        for n, each in enumerate(layer.layers):
            yield from ((f"{n}_{name}", shape) for name, shape in _named_shapes(each))
    else:
        yield from named_shapes(layer.cell.state_names, layer.cell.state_shapes)


def _check(
    model: keras.Model,
    step: keras.Model,
    timed: Sequence[bool],
    outputs_timed: Sequence[bool],
    tolerance: float | None,
) -> None:
    one_step = parity.reference(step)
    if tolerance is None:
        tolerance = parity.default_tolerance(model)
    with tracing.stateless(model):
        cases = parity.random_cases(model, masked=False)
    largest = 0.0
    for inputs, expected in cases:
        rows, length = next(x.shape[:2] for x, has in zip(inputs, timed, strict=True) if has)
        states = [
            np.zeros((rows, *s.shape[1:]), parity.numpy_dtype(s.dtype))
            for s in step.inputs[len(inputs) :]
        ]
        outputs: list[Sequence[np.ndarray]] = []
        for t in range(length):
            x_t = [x[:, t] if has else x for x, has in zip(inputs, timed, strict=True)]
            results = one_step([*x_t, *states])
            outputs.append(results[: len(expected)])
            states = results[len(expected) :]
        streamed = [
            np.stack(each, axis=1) if has else each[-1]
            for each, has in zip(zip(*outputs, strict=True), outputs_timed, strict=True)
        ]
        case = (inputs, expected)
        largest = max(largest, parity.largest_difference(lambda _, y=streamed: y, [case]))
    if not largest <= tolerance:
        raise ParityError(
            f"the steps differ from model {model.name!r} by up to {largest:.2e}; expected at most "
            f"{tolerance:.2e}: a custom layer, or one inside TimeDistributed or per_step, "
            "depends on steps other than its own."
        )
