"""Changes to a model's layers while it is traced for an export.

A file is written from the model itself: nothing is serialized or copied, so that a `Lambda`, an
unregistered function, or a layer without a configuration is exported like any other layer. Within
`for_export`, some layers compute the same results in a different way.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import ops

from kerasrnn.cells.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from kerasrnn.cells.gru import GRU, GRUCell
from kerasrnn.cells.lstm import LSTM, LSTMCell
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.simple_rnn import SimpleRNN, SimpleRNNCell
from kerasrnn.export import signature
from kerasrnn.keras_internals import flatten_layers, takes_mask, takes_training
from kerasrnn.layers.batched_time_distributed import batched_over_time

Tensor = Any

TENSORFLOW_NAME = r"[A-Za-z0-9.][A-Za-z0-9_.>-]*"

HALF = ("float16", "bfloat16")

CELLS = {
    keras.layers.SimpleRNNCell: SimpleRNNCell,
    keras.layers.LSTMCell: LSTMCell,
    keras.layers.GRUCell: GRUCell,
}
LAYERS = {
    keras.layers.SimpleRNN: SimpleRNN,
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.ConvLSTM1D: ConvLSTM1D,
    keras.layers.ConvLSTM2D: ConvLSTM2D,
    keras.layers.ConvLSTM3D: ConvLSTM3D,
}


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers, including those inside others, each once."""
    return [layer for layer in flatten_layers(model) if layer is not model]


def half_precision(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that compute in half precision."""
    return [layer for layer in layers_of(model) if layer.compute_dtype in HALF]


@contextmanager
def for_export(
    model: keras.Model, own_loops: bool = False, single: bool = False
) -> Iterator[list[Any]]:
    """Within this context, the model's layers compute in ways that can be exported.

    `keras.layers.TimeDistributed` over an unknown number of steps calls its layer on all steps at
    once: in a graph, Keras's own implementation takes the number of rows for the number of steps.
    No layer runs in cuDNN: a file that is written on a machine with a GPU runs on others, too.

    Args:
        model: the model to trace; it is restored afterwards.
        own_loops: whether Keras's recurrent layers run in kerasrnn's loop, which
            `recurrence.loop.replaced_by` can replace by a format's own operators.
        single: whether layers of half precision compute in single precision.

    Yields:
        Variables that the layers use within the context, in addition to those of the model.
    """
    variables: list[Any] = []
    with ExitStack() as stack:
        stack.enter_context(without_cudnn(model))
        if single:
            for layer in half_precision(model):
                policy = keras.dtype_policies.DTypePolicy("float32")
                stack.enter_context(_with(layer, "_dtype_policy", policy))
        for layer in layers_of(model):
            if type(layer) is keras.layers.TimeDistributed:
                stack.enter_context(_with(layer, "call", _steps_at_once(layer)))
            twin = _twin(layer) if own_loops else None
            if twin is not None:
                variables += twin.variables
                stack.enter_context(_with(layer, "call", twin.call))
        yield variables


def specs(model: keras.Model, single: bool = False) -> list[Any]:
    """TensorFlow's specifications of a model's inputs, with their names in a signature.

    Args:
        model: the model.
        single: whether inputs of half precision become single precision.

    Raises:
        ValueError: a name is invalid in TensorFlow.
    """
    import tensorflow as tf

    names, tensors = signature.inputs(model)
    for name in names:
        if not re.fullmatch(TENSORFLOW_NAME, name):
            raise ValueError(
                f"model {model.name!r} has an input named {name!r}; TensorFlow's signatures accept "
                "only ._->, digits and letters without accents."
            )
    return [
        tf.TensorSpec(x.shape, "float32" if single and x.dtype in HALF else x.dtype, name=name)
        for name, x in zip(names, tensors, strict=True)
    ]


def single_call(model: keras.Model, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The model's outputs, flat, with half precision converted to single precision."""
    outputs = signature.call(model, inputs)
    return [ops.cast(y, "float32") if y.dtype.name in HALF else y for y in outputs]


@contextmanager
def without_cudnn(model: keras.Model) -> Iterator[None]:
    """Within this context, no layer runs in cuDNN, not even Keras's own."""
    with ExitStack() as stack:
        for layer in layers_of(model):
            if hasattr(layer, "use_cudnn"):
                stack.enter_context(_with(layer, "use_cudnn", False))
        yield


@contextmanager
def stateless(model: keras.Model) -> Iterator[None]:
    """Within this context, stateful layers begin with zeros, and store no states."""
    with ExitStack() as stack:
        for layer in layers_of(model):
            if vars(layer).get("stateful", False):
                stack.enter_context(_with(layer, "stateful", False))
        yield


@contextmanager
def _with(layer: keras.layers.Layer, name: str, value: Any) -> Iterator[None]:
    """Within this context, an attribute of the layer is replaced; Keras does not track it."""
    attributes = vars(layer)
    missing = object()
    before = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if before is missing:
            del attributes[name]
        else:
            attributes[name] = before


def _steps_at_once(layer: keras.layers.TimeDistributed) -> Callable[..., Tensor]:
    """The call of a `TimeDistributed` that is correct for an unknown number of steps too."""
    own, inner = layer.call, layer.layer

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if inputs.shape[1] is not None:
            return own(inputs, training=training, mask=mask)
        options = {}
        if takes_mask(inner) and mask is not None:
            options["mask"] = ops.reshape(mask, (-1, *ops.shape(mask)[2:]))
        if takes_training(inner):
            options["training"] = training
        return batched_over_time(lambda steps: inner.call(steps, **options), inputs)

    return call


def _twin(layer: keras.layers.Layer) -> RNN | None:
    """The equivalent kerasrnn layer for one of Keras's own."""
    kind = type(layer)
    if kind in LAYERS:
        twin = LAYERS[kind](**_options(layer))
    elif kind is keras.layers.RNN and type(layer.cell) in CELLS:
        cell = CELLS[type(layer.cell)](**_options(layer.cell))
        twin = RNN(**{**_options(layer), "cell": cell})
    else:
        return None
    twin.build((None, None, *step_shape(layer)))
    twin.set_weights(layer.get_weights())
    return twin


def step_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """The shape of one step of one sequence, of a built layer of Keras's or kerasrnn's."""
    kernel = layer.weights[0]
    if len(kernel.shape) == 2:
        return (kernel.shape[0],)
    of_build = layer.get_build_config()  # one shape, or those of all arguments
    shape = of_build.get("input_shape") or next(iter(of_build["shapes_dict"].values()))
    return tuple(shape[2:])


def _options(layer: keras.layers.Layer) -> dict[str, Any]:
    """The constructor's arguments that matter in inference.

    Functions and policies are passed as objects, since they need not be registered.
    """
    left_out = ("_initializer", "_regularizer", "_constraint", "seed", "dropout", "stateful")
    options = {k: v for k, v in layer.get_config().items() if not k.endswith(left_out)}
    for name in ("activation", "recurrent_activation"):
        if name in options:
            options[name] = getattr(layer, name)
    return {**options, "dtype": layer.dtype_policy}
