"""The contenders on JAX: each computation is one `jax.jit`, as in Keras's trainer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring.data import weights
from benchmarks.measuring.worker import Ready
from benchmarks.speed.contenders import GATES, data, facts_of
from benchmarks.speed.grid import Point

# Flax's name of each gate, in Keras's order.
FLAX_GATES = {"SimpleRNN": ("",), "LSTM": ("i", "f", "g", "o"), "GRU": ("z", "r", "n")}


def keras_layer(layer: Any, point: Point) -> Ready:
    """Prepare a layer of Keras or kerasrnn."""
    layer.build(data(point).x.shape)
    shapes = [tuple(weight.shape) for weight in layer.weights]
    layer.set_weights(weights(shapes, point.shape.units))
    trainable = [weight.value for weight in layer.trainable_variables]
    others = [weight.value for weight in layer.non_trainable_variables]
    mask = None
    if point.masked:
        mask = jnp.arange(point.shape.time) < data(point).lengths[:, None]

    def outputs(weights: Any, x: Any, mask: Any, training: bool) -> Any:
        return layer.stateless_call(weights, others, x, mask=mask, training=training)[0]

    if point.mode == "eager":
        x = jnp.asarray(data(point).x)
        step = lambda: [jax.block_until_ready(layer(x, mask=mask, training=False))]  # noqa: E731
        return Ready(step, lambda results: facts_of(point, [np.asarray(results[0])], data(point)))
    return _ready(point, outputs, trainable, mask, lambda d_weights: d_weights[0])


def flax(point: Point) -> Ready:
    """Prepare `flax.linen.RNN`, with the cell that computes the gates of a step together."""
    from flax import linen

    cell = {
        "SimpleRNN": linen.SimpleCell,
        "LSTM": linen.OptimizedLSTMCell,
        "GRU": linen.GRUCell,
    }[point.cell]
    layer = linen.RNN(cell(point.shape.units))
    lengths = jnp.asarray(data(point).lengths) if point.masked else None

    def outputs(weights: Any, x: Any, lengths: Any, training: bool) -> Any:
        return layer.apply(weights, x, seq_lengths=lengths)

    def d_kernel(d_weights: Any) -> Any:
        of_cell = d_weights["params"]["cell"]
        gates = FLAX_GATES[point.cell]
        return jnp.concatenate([of_cell[f"i{gate}"]["kernel"] for gate in gates], axis=-1)

    return _ready(point, outputs, _flax_weights(point), lengths, d_kernel)


def _flax_weights(point: Point) -> Any:
    """Keras's weights in Flax's layout: a kernel for each gate, and biases where Flax has them."""
    _, _, features, units = point.shape
    names, columns = FLAX_GATES[point.cell], GATES[point.cell] * units
    bias_shape = (2, columns) if point.cell == "GRU" else (columns,)
    values = weights([(features, columns), (units, columns), bias_shape], units)
    kernel, recurrent_kernel, bias = (np.split(v, len(names), axis=-1) for v in values)
    cell: dict[str, dict[str, np.ndarray]] = {}
    for k, name in enumerate(names):
        cell[f"i{name}"] = {"kernel": kernel[k]}
        cell[f"h{name}"] = {"kernel": recurrent_kernel[k]}
        if point.cell == "LSTM":
            cell[f"h{name}"]["bias"] = bias[k]
        elif point.cell == "SimpleRNN":
            cell[f"i{name}"]["bias"] = bias[k]
        elif name == "n":  # the reset gate multiplies only the second
            cell["in"]["bias"], cell["hn"]["bias"] = bias[k]
        else:
            cell[f"i{name}"]["bias"] = bias[k].sum(axis=0)
    return jax.tree.map(jnp.asarray, {"params": {"cell": cell}})


def _ready(
    point: Point,
    outputs: Callable[[Any, Any, Any, bool], Any],
    variables: Any,
    mask: Any,
    d_kernel: Callable[[Any], Any],
) -> Ready:
    """Prepare a function `outputs(weights, x, mask, training)`.

    `d_kernel` selects the gradient of the kernel from those of the weights.
    """
    inputs = data(point)
    x, r = jnp.asarray(inputs.x), jnp.asarray(inputs.r)

    def loss(weights: Any, x: Any, r: Any, mask: Any) -> Any:
        return jnp.sum(outputs(weights, x, mask, True) * r)

    def training(weights: Any, x: Any, r: Any, mask: Any) -> Any:
        return jax.value_and_grad(loss, (0, 1))(weights, x, r, mask)

    def inference(weights: Any, x: Any, r: Any, mask: Any) -> Any:
        return outputs(weights, x, mask, False)

    function = jax.jit(training if point.mode == "training" else inference)

    def facts(results: Any) -> list[float]:
        if point.mode != "training":
            return facts_of(point, [np.asarray(results)], inputs)
        value, (d_weights, d_x) = results
        arrays = map(np.asarray, (value, d_x, d_kernel(d_weights)))
        return facts_of(point, list(arrays), inputs)

    return Ready(lambda: jax.block_until_ready(function(variables, x, r, mask)), facts)
