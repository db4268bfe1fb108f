"""One step of a model, for streams, where a sequence arrives in parts and never ends."""

from collections.abc import Collection, Sequence

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.export import parity, signature, tracing
from kerasrnn.export.parity import ParityError
from kerasrnn.export.step_graph import (
    CONSTANT,
    CONVOLUTIONS,
    RECURRENT,
    SEQUENCE,
    Refused,
    StepGraph,
)
from kerasrnn.keras_internals import nodes_of
from kerasrnn.validation import NonNegativeNumber


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
    states: those of a layer with other initial states, such as learned ones, are relative to them.

    The step is an ordinary model with separate weights: `to_onnx`, `to_saved_model` and `to_litert`
    export it. A fixed batch size of the model also applies to the step.

    The following have a step:

    - recurrent layers, Keras's or kerasrnn's, without `go_backwards`, whose initial states are not
      computed by other layers; also `stateful` ones;
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
    known = [layer.name for layer in tracing.layers_of(model)]
    unknown = [name for name in per_step if not isinstance(name, str) or name not in known]
    if unknown:
        raise ValueError(
            f"per_step={list(per_step)}: model {model.name!r} has no layer {unknown[0]!r}."
        )
    timed = _sequences(model)
    if not any(timed):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(
            f"model {model.name!r} has inputs of {shapes}; expected one of (batch, time, ...), "
            "whose steps arrive one by one and are processed by a layer with a state."
        )
    graph = StepGraph(model, per_step)
    steps, inputs = [], []
    for name, tensor, has_time in zip(names, tensors, timed, strict=True):
        shape = (tensor.shape[0], *tensor.shape[2 if has_time else 1 :])
        steps.append(keras.Input(batch_shape=shape, dtype=tensor.dtype, name=f"{name}_t"))
        x = ops.expand_dims(steps[-1], 1) if has_time else steps[-1]
        inputs.append(graph.mark(x, SEQUENCE if has_time else CONSTANT))
    outputs = keras.tree.flatten(graph.through(model, inputs))
    if not graph.states:
        raise ValueError(
            f"model {model.name!r} has no layer with a state; expected a recurrent layer, or a "
            "causal convolution."
        )
    at_step = []
    for name, y in zip(signature.output_names(model), outputs, strict=True):
        if isinstance(y, Refused):
            raise ValueError(y.reason)
        if graph.padding(y):
            raise ValueError(
                f"output {name!r}: has more steps than its sequence; expected a convolution or a "
                "pooling after ZeroPadding1D, whose window covers them."
            )
        y_t = ops.squeeze(y, 1) if graph.kind(y) == SEQUENCE else y
        at_step.append(keras.layers.Identity(name=f"{name}_t")(y_t))
    result = keras.Model(
        [*steps, *graph.states], [*at_step, *graph.new_states], name=f"{model.name}_step"
    )
    if check:
        has_time = [graph.kind(y) == SEQUENCE for y in outputs]
        _check(model, result, timed, has_time, tolerance)
    return result


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
        # The inputs that arrive step by step have as many steps.
        cases = parity.random_cases(model, masked=False, apart=False)
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
