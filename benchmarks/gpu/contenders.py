"""The contenders: each prepares a point so that it can be run and compared.

All have the same inputs, the same weights and the same task, batch first, in the point's precision:
those of Keras with the policy `mixed_bfloat16`, for example, whose weights and their gradients are
float32; PyTorch's with everything in bfloat16.
Training computes the outputs of all steps and, given random gradients of the outputs, the gradients
with respect to the inputs and all weights. A device computes asynchronously: every call waits for
its results.

The recipe's model trains with `train_on_batch` on random pairs, which runs on each backend.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu.plan import CONTENDERS, SMALL, Point
from benchmarks.measuring.data import weights
from benchmarks.measuring.worker import Ready

POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16", "float32": "float32"}
GATES = {"LSTM": 4, "GRU": 3}
STATES = {"LSTM": 2, "GRU": 1}

# The recipe's other options at SMALL, where its model is as small as the layers.
SMALL_RECIPE = {"vocabulary": 50, "depth": 1}


@dataclass(frozen=True, kw_only=True)
class Computation(Ready):
    """A prepared point, with its results as arrays."""

    arrays: Callable[[Any], list[np.ndarray]]
    """The outputs and, in training, the gradients with respect to the inputs and each weight, from
    the results of `step`, in Keras's layout."""

    weights: dict[str, np.ndarray]
    """By name, in the same order."""

    states: list[np.ndarray]
    """The initial states."""


class Data(NamedTuple):
    x: np.ndarray
    """The inputs, `(batch, time, features)`."""

    d_y: np.ndarray
    """The gradients of the outputs, `(batch, time, units)`."""


def in_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to values that bfloat16 represents exactly, so that only computations differ."""
    return (values.view("uint32") & np.uint32(0xFFFF0000)).view("float32")


def data(point: Point) -> Data:
    batch, time, features, units = point.shape
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, time, features), "float32")
    d_y = random.standard_normal((batch, time, units), "float32")
    return Data(in_bfloat16(x), in_bfloat16(d_y))


def computation(contender: str, point: Point, device: str) -> Computation:
    """Prepare everything except the first call.

    Args:
        contender: the name of the contender.
        point: the point.
        device: `gpu` or `cpu`; JAX and TensorFlow find theirs.

    Raises:
        ValueError: the contender is unknown.
        RuntimeError: the package of the contender finds no GPU.
    """
    if contender not in CONTENDERS:
        raise ValueError(f"contender {contender!r}: expected one of {', '.join(CONTENDERS)}")
    if point.part == "recipe":
        return _recipe(point)
    if contender == "torch":
        return _torch(point, device)
    if contender == "jax-rnn":
        return _jax_rnn(point)
    return _keras(contender, point)


def float32(value: Any) -> np.ndarray:
    """The values of a tensor of any backend, on the host."""
    if hasattr(value, "detach"):  # NumPy has no bfloat16, into which torch would convert
        value = value.detach().float().cpu()
    return np.asarray(value).astype("float32")


def _facts(results: Sequence[np.ndarray]) -> list[float]:
    """The norms of the outputs, of the inputs' gradient, and of the first weight's."""
    return [float(np.linalg.norm(result)) for result in results[:3]]


# Keras, on TensorFlow or JAX.


def _layer(contender: str, point: Point) -> Any:
    import keras

    import kerasrnn

    policy = POLICIES[point.precision]
    options: dict[str, Any] = {"return_sequences": True, "dtype": policy}
    units = point.shape.units
    if contender == "keras-rnn":
        cell = getattr(kerasrnn, f"{point.cell}Cell")(units, dtype=policy)
        return keras.layers.RNN(cell, **options)
    if contender == "kerasrnn-sqrt":
        options["checkpoint_every"] = "sqrt"
    if contender == "kerasrnn-loop":
        options["jit_compile"] = True
        if point.cell in GATES:
            options["use_cudnn"] = False
    house = keras.layers if contender == "keras" else kerasrnn
    return getattr(house, point.cell)(units, **options)


def _keras(contender: str, point: Point) -> Computation:
    import keras

    layer = _layer(contender, point)
    layer.build(tuple(point.shape[:3]))
    values = weights([tuple(weight.shape) for weight in layer.weights], point.shape.units)
    values = [in_bfloat16(value) for value in values]
    layer.set_weights(values)
    if keras.config.backend() == "jax":
        step = _on_jax(layer, point)
    else:
        step = _on_tensorflow(layer, point, jit_compile=contender == "keras-rnn" or None)
    states = keras.tree.flatten(layer.get_initial_state(batch_size=point.shape.batch))

    def arrays(results: Any) -> list[np.ndarray]:
        return [float32(result) for result in results]

    return Computation(
        step,
        lambda results: _facts(arrays(results)),
        arrays=arrays,
        weights=dict(zip([weight.name for weight in layer.weights], values, strict=True)),
        states=[np.zeros(state.shape) for state in states],
    )


def _on_tensorflow(layer: Any, point: Point, jit_compile: bool | None) -> Callable[[], Any]:
    import tensorflow as tf

    x, d_y = (tf.constant(values, point.precision) for values in data(point))

    def training(x: Any, d_y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        variables = [weight.value for weight in layer.trainable_weights]
        return [y, *tape.gradient(y, [x, *variables], output_gradients=d_y)]

    def inference(x: Any, d_y: Any) -> Any:
        return [layer(x, training=False)]

    function = tf.function(
        training if point.mode == "training" else inference,
        jit_compile=jit_compile,
        autograph=False,
    )

    def step() -> Any:
        results = function(x, d_y)
        tf.test.experimental.sync_devices()
        return results

    return step


def _on_jax(layer: Any, point: Point) -> Callable[[], Any]:
    import jax

    x, d_y = (jax.numpy.asarray(values, point.precision) for values in data(point))
    variables = [weight.value for weight in layer.trainable_variables]
    others = [weight.value for weight in layer.non_trainable_variables]
    is_training = point.mode == "training"

    def outputs(x: Any, *variables: Any) -> Any:
        y, _ = layer.stateless_call(list(variables), others, x, training=is_training)
        return y

    return _jitted(outputs, x, variables, d_y, is_training)


def _jitted(
    outputs: Callable[..., Any], x: Any, variables: Sequence[Any], d_y: Any, is_training: bool
) -> Callable[[], Any]:
    import jax

    @jax.jit
    def training(x: Any, variables: Any, d_y: Any) -> Any:
        y, pullback = jax.vjp(outputs, x, *variables)
        return [y, *pullback(d_y)]

    @jax.jit
    def inference(x: Any, variables: Any, d_y: Any) -> Any:
        return [outputs(x, *variables)]

    function = training if is_training else inference
    return lambda: jax.block_until_ready(function(x, variables, d_y))


# cuDNN, from PyTorch and from JAX.


def _weights(point: Point) -> dict[str, np.ndarray]:
    """Weights of LSTM or GRU, in Keras's layout."""
    _, _, features, units = point.shape
    columns = GATES[point.cell] * units
    bias_shape = (2, columns) if point.cell == "GRU" else (columns,)
    shapes = [(features, columns), (units, columns), bias_shape]
    values = (in_bfloat16(value) for value in weights(shapes, units))
    return dict(zip(("kernel", "recurrent_kernel", "bias"), values, strict=True))


def _initial_states(point: Point) -> list[np.ndarray]:
    return [np.zeros((point.shape.batch, point.shape.units))] * STATES[point.cell]


def _gates_exchanged(cell: str, value: np.ndarray) -> np.ndarray:
    """Exchange the blocks of GRU's gates: Keras has z, r, h and cuDNN r, z, h. LSTM's are alike."""
    blocks = np.split(value, GATES[cell])
    if cell == "GRU":
        blocks[:2] = blocks[1::-1]
    return np.concatenate(blocks)


def to_cudnn(cell: str, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Keras's weights in cuDNN's layout: transposed, with two biases."""
    bias = given["bias"]
    biases = tuple(bias) if cell == "GRU" else (bias, np.zeros_like(bias))
    found = (given["kernel"].T, given["recurrent_kernel"].T, *biases)
    return [_gates_exchanged(cell, value) for value in found]


def from_cudnn(cell: str, gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gradients with respect to cuDNN's weights, in Keras's layout."""
    kernel, recurrent_kernel, *biases = (_gates_exchanged(cell, value) for value in gradients)
    return [kernel.T, recurrent_kernel.T, np.stack(biases) if cell == "GRU" else biases[0]]


def _torch(point: Point, device: str) -> Computation:
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU")
    target = {
        "device": "cuda" if device == "gpu" else "cpu",
        "dtype": getattr(torch, point.precision),
    }
    _, _, features, units = point.shape
    given = _weights(point)
    module = getattr(torch.nn, point.cell)(features, units, batch_first=True).to(**target)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), to_cudnn(point.cell, given), strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    x, d_y = (torch.from_numpy(values).to(**target) for values in data(point))

    def wait(results: Any) -> Any:
        if device == "gpu":
            torch.cuda.synchronize()
        return results

    def training() -> Any:
        y, _ = module(x)
        inputs = [x, *module.parameters()]
        return wait([y.detach(), *torch.autograd.grad(y, inputs, grad_outputs=d_y)])

    def inference() -> Any:
        with torch.inference_mode():
            return wait([module(x)[0]])

    def arrays(results: Any) -> list[np.ndarray]:
        y, *gradients = map(float32, results)
        return [y, *gradients[:1], *(from_cudnn(point.cell, gradients[1:]) if gradients else ())]

    if point.mode == "training":
        x.requires_grad_()
    else:
        module.eval()
    return Computation(
        training if point.mode == "training" else inference,
        lambda results: _facts(arrays(results)),
        arrays=arrays,
        weights=given,
        states=_initial_states(point),
    )


def _jax_rnn(point: Point) -> Computation:
    import jax
    from jax.experimental import rnn

    if jax.default_backend() != "gpu":
        raise RuntimeError("JAX finds no GPU")
    batch, time, features, units = point.shape
    given = _weights(point)
    parts = to_cudnn(point.cell, given)
    shapes, sizes = [part.shape for part in parts], [part.size for part in parts]
    x, d_y = map(jax.numpy.asarray, data(point))
    flat = jax.numpy.concatenate([part.ravel() for part in parts])
    state = jax.numpy.zeros((1, batch, units))
    lengths = jax.numpy.full(batch, time, "int32")

    def outputs(x: Any, flat: Any) -> Any:
        options = {"num_layers": 1, "dropout": 0.0, "bidirectional": False}
        return rnn.lstm(x, state, state, flat, lengths, features, units, **options)[0]

    def arrays(results: Any) -> list[np.ndarray]:
        y, *gradients = map(float32, results)
        if not gradients:
            return [y]
        blocks = np.split(gradients[1], np.cumsum(sizes)[:-1])
        of_weights = [block.reshape(shape) for block, shape in zip(blocks, shapes, strict=True)]
        return [y, gradients[0], *from_cudnn(point.cell, of_weights)]

    return Computation(
        _jitted(outputs, x, [flat], d_y, point.mode == "training"),
        lambda results: _facts(arrays(results)),
        arrays=arrays,
        weights=given,
        states=_initial_states(point),
    )


# The recipe.


def _recipe(point: Point) -> Computation:
    """A training step of the recipe with random pairs of one length.

    Its only result is the loss, which an untrained model has at the logarithm of the number of
    classes: `facts` is the ratio of the two.
    """
    import keras

    from benchmarks.scale.job import LARGE
    from kerasrnn import recipes
    from kerasrnn.recipes.base.recipe import Data
    from kerasrnn.recipes.training.from_config import optimizer

    batch, time, embedding, units = point.shape
    options = LARGE | {"embedding": embedding, "units": units}  # as in docs/scale.md
    if point.shape == SMALL:
        options |= SMALL_RECIPE
    vocabulary = options["vocabulary"]
    keras.config.set_dtype_policy(POLICIES[point.precision])
    recipe = recipes.load(point.cell)
    config = recipe.Config(batch_size=batch, **options)
    metadata = {side: {"symbols": ["?"] * vocabulary} for side in ("source", "target")}
    model = recipe.model(config, Data(None, None, batch, 0, metadata))
    # The learning rate begins at zero and grows in many steps: the loss stays where it is.
    model.compile(optimizer(config, 100_000), recipe.loss(config))
    ids = np.random.default_rng(0).integers(1, vocabulary + 2, (3, batch, time), "int32")
    source, previous, target = ids

    def step() -> float:
        loss = model.train_on_batch((source, previous), target)
        _wait_for(model)
        return float(loss)

    def facts(loss: float) -> list[float]:
        return [loss / math.log(model.output_shape[-1])]

    def arrays(loss: float) -> list[np.ndarray]:
        return [np.array(facts(loss))]

    return Computation(step, facts, arrays=arrays, weights={}, states=[])


def _wait_for(model: Any) -> None:
    """Wait for the update of the weights, which the loss does not depend on."""
    import keras

    if keras.config.backend() == "jax":
        import jax

        jax.block_until_ready([weight.value for weight in model.trainable_variables])
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()
