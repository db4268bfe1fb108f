"""One step of a model: for streams, where a sequence comes piece by piece and never ends."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import RNN
from kerasrnn.export import keras_layers, parity
from kerasrnn.export.parity import ParityError
from kerasrnn.keras_internals import run_through_graph
from kerasrnn.layers.bidirectional import BidirectionalRNN
from kerasrnn.layers.parts import copied, unbuilt_config
from kerasrnn.layers.stacked import StackedRNN
from kerasrnn.validation import NonNegativeNumber

Tensor = Any


@validation.checked
def to_step(
    model: keras.Model, check: bool = True, tolerance: NonNegativeNumber = 1e-5
) -> keras.Model:
    """The model's step, as a model: `(x_t, states) -> (y_t, new_states)`.

    Its inputs are those of one step, `(batch, ...)`, then every recurrent layer's states, `(batch,
    units)`, in the order in which the layers stand; its outputs are the model's at that step (of a
    layer that returns its last output alone: what it would return if the sequence ended there),
    then the new states. Inputs and outputs are named after the model's, with `_t`; a state after
    its layer and itself, its new value with `_next`. A stream begins with states of zeros.

    It is an ordinary model with weights of its own: `to_onnx`, `to_saved_model` and `to_litert`
    export it.

    Masking: there is no padding in a stream; what is masked is not to be fed.

    Args:
        model: a functional or Sequential model with inputs of a dynamic time axis, `(batch, None,
            ...)`, whose recurrent layers, Keras's or kerasrnn's, read forwards. What stands between
            them looks at one step alone; inputs without such an axis are the same for all steps.
        check: whether to compare the steps' outputs with the model's, on random sequences.
        tolerance: the largest absolute difference that is accepted.

    Raises:
        ParityError: the difference is over the tolerance: some layer looks at other steps.
        ValueError: a layer reads from the end, or attends; no input has a time axis; a layer is
            given its initial state; the model has no recurrent layer.

    Example: a running sum of a kind, fed number by number.

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
    names, tensors = parity.input_signature(model)
    if not any(map(_has_time, tensors)):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(
            f"model {model.name!r} has inputs of {shapes}; expected one of (batch, None, ...), "
            "whose steps come one by one."
        )
    steps, inputs = [], []
    for name, tensor in zip(names, tensors, strict=True):
        rest = tensor.shape[2:] if _has_time(tensor) else tensor.shape[1:]
        steps.append(keras.Input(rest, dtype=tensor.dtype, name=f"{name}_t"))
        inputs.append(ops.expand_dims(steps[-1], 1) if _has_time(tensor) else steps[-1])
    walk = _Walk()
    outputs = keras.tree.flatten(walk.through(keras_layers.rewritten(model, _for_steps), inputs))
    if not walk.states:
        raise ValueError(f"model {model.name!r} has no recurrent layer; expected one at least.")
    at_step = [
        keras.layers.Identity(name=f"{name}_t")(ops.squeeze(y, 1) if _has_time(whole) else y)
        for name, y, whole in zip(parity.output_names(model), outputs, model.outputs, strict=True)
    ]
    result = keras.Model(
        [*steps, *walk.states], [*at_step, *walk.new_states], name=f"{model.name}_step"
    )
    for layer, weights in walk.copied:
        layer.set_weights(weights)
    if check:
        _check(model, result, tolerance)
    return result


def _stateless(part: dict[str, Any]) -> None:
    if "stateful" in part["config"]:
        part["config"]["stateful"] = False


def _for_steps(part: dict[str, Any]) -> None:
    """A layer's configuration for one step: no states of its own, no masks, no loop."""
    keras_layers.ours(part)
    _stateless(part)
    config = part["config"]
    if part["class_name"] == "Masking":
        part["class_name"] = "Identity"
        del config["mask_value"]
    if "mask_zero" in config:
        config["mask_zero"] = False
    if "unroll" in config:
        config["unroll"] = True
        for name in ("checkpoint_every", "truncate_every"):
            config.pop(name, None)


class _Walk:
    """A model's graph, called on one step; its recurrent layers on their states."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []
        self.new_states: list[Tensor] = []
        self.copied: list[tuple[Any, list[np.ndarray]]] = []

    def through(self, model: keras.Model, inputs: Any) -> Any:
        return run_through_graph(model, inputs, self._call)

    def _call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras.Model) and any(
            isinstance(layer, (RNN, StackedRNN, BidirectionalRNN, keras.layers.Bidirectional))
            for layer in parity.layers_of(operation)
        ):
            return self.through(operation, args[0])
        if isinstance(operation, (BidirectionalRNN, keras.layers.Bidirectional)) or getattr(
            operation, "go_backwards", False
        ):
            raise ValueError(
                f"{operation.name}: {type(operation).__name__} reads the sequence from its end, "
                "which a stream has not; expected layers that read forwards."
            )
        if not isinstance(operation, (RNN, StackedRNN)):
            return operation(*args, **kwargs)
        return self._step(operation, *args, **kwargs)

    def _step(self, layer: RNN | StackedRNN, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or any(kwargs.get(name) is not None for name in ("initial_state", "memory")):
            raise ValueError(
                f"{layer.name}: given its initial state, or a memory to attend to, by other "
                "layers; expected a layer that begins with zeros."
            )
        config = unbuilt_config(layer)
        returned = config["config"]["return_state"]
        config["config"]["return_state"] = True
        config["config"]["name"] = self._free(f"{layer.name}_step")
        copy = copied(layer, config)
        states = []
        sizes = keras.tree.flatten(layer.state_size)  # nested for a list of cells
        for name, size in zip(_state_names(layer), sizes, strict=True):
            name = self._free(f"{layer.name}_{name}")
            states.append(keras.Input((size,), dtype=layer.compute_dtype, name=name))
        given = keras.tree.pack_sequence_as(layer.state_size, states)
        y, *new = copy(x, initial_state=given)
        self.copied.append((copy, layer.get_weights()))
        self.states += states
        self.new_states += [
            keras.layers.Identity(name=f"{state.name}_next")(after)
            for state, after in zip(states, keras.tree.flatten(new), strict=True)
        ]
        return (y, *new) if returned else y

    def _free(self, name: str) -> str:
        """The name, numbered if a layer that is called twice has it already."""
        taken = {state.name for state in self.states} | {copy.name for copy, _ in self.copied}
        n = 2
        wanted = name
        while name in taken:
            name = f"{wanted}_{n}"
            n += 1
        return name


def _has_time(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) > 1 and tensor.shape[1] is None


def _state_names(layer: RNN | StackedRNN) -> Iterator[str]:
    if isinstance(layer, StackedRNN):
        for n, each in enumerate(layer.layers):
            if isinstance(each, BidirectionalRNN):
                raise ValueError(f"{layer.name}: {each.name} reads the sequence from its end.")
            yield from (f"{n}_{name}" for name in _state_names(each))
        return
    names = getattr(layer.cell, "state_names", None)
    sizes = keras.tree.flatten(layer.state_size)
    if names is None or len(names) != len(sizes):  # another library's cell, or cells in a stack
        names = [f"state_{n}" for n in range(len(sizes))]
    yield from names


def _check(model: keras.Model, step: keras.Model, tolerance: float) -> None:
    if parity.stateful_layer(model) is not None:
        model = keras_layers.rewritten(model, _stateless)
    model_itself, one_step = parity.reference(model), parity.reference(step)
    largest = 0.0
    for inputs in parity.random_inputs(model, model_itself, masked=False):
        timed = [_has_time(tensor) for tensor in model.inputs]
        rows, length = next(x.shape[:2] for x, has in zip(inputs, timed, strict=True) if has)
        states = [np.zeros((rows, s.shape[1]), s.dtype) for s in step.inputs[len(inputs) :]]
        outputs: list[Sequence[np.ndarray]] = []
        for t in range(length):
            x_t = [x[:, t] if has else x for x, has in zip(inputs, timed, strict=True)]
            results = one_step([*x_t, *states])
            outputs.append(results[: len(model.outputs)])
            states = results[len(model.outputs) :]
        wholes = zip(model_itself(inputs), model.outputs, strict=True)
        for n, (whole, tensor) in enumerate(wholes):
            each = [of_step[n] for of_step in outputs]
            streamed = np.stack(each, axis=1) if _has_time(tensor) else each[-1]
            largest = max(largest, float(np.abs(streamed - whole).max()))
    if not largest <= tolerance:
        known = (RNN, StackedRNN, Cell, keras.layers.InputLayer)
        others = [layer for layer in parity.layers_of(model) if not isinstance(layer, known)]
        named = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in others)
        raise ParityError(
            f"the steps differ from model {model.name!r} by up to {largest:.2e}; expected at most "
            f"{tolerance:.2e}: one of these layers looks at other steps than its own: {named}."
        )
