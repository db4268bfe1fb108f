"""Shared by converted layers: their matrices, and the comparison of both versions.

The matrices of PyTorch and ONNX are transposed, `(gates * units, ...)`; each has its own order of a
cell's gates; both have two biases where an LSTM or a SimpleRNN needs only their sum.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.export import parity, tracing
from kerasrnn.layers.bidirectional import Bidirectional

TOLERANCE = 1e-5


def halves(layer: RNN | Bidirectional) -> list[RNN]:
    if isinstance(layer, Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer]


def of_cell(cell: Cell, order: Sequence[str]) -> list[np.ndarray]:
    """W and R, `(gates * units, ...)`, with ordered gates; then their two biases, if any."""
    kernel, recurrent, *bias = (keras.ops.convert_to_numpy(w) for w in cell.weights[:3])
    if cell.recurrent_parametrization is not None:
        recurrent = keras.ops.convert_to_numpy(cell.weights_by_name()["recurrent_kernel"])
    values = [kernel.T, recurrent.T]
    if cell.use_bias:
        values += list(bias[0]) if bias[0].ndim == 2 else [bias[0], np.zeros_like(bias[0])]
    return [_ordered(value, cell.gates, order) for value in values]


def fill(cell: Cell, values: Sequence[np.ndarray], order: Sequence[str | None]) -> None:
    """The inverse of `of_cell`: assign its result to a cell."""
    kernel, recurrent, *biases = (_ordered(value, order, cell.gates) for value in values)
    cell.kernel.assign(kernel.T)
    cell.recurrent_kernel.assign(recurrent.T)
    if biases:
        both = np.stack(biases)
        cell.bias.assign(both if len(cell.bias_shape) == 2 else both.sum(axis=0))


def _ordered(
    value: np.ndarray, order: Sequence[str | None], new_order: Sequence[str]
) -> np.ndarray:
    """The blocks of a matrix in another order; those of a gate with a minus sign are negated."""
    blocks = dict(zip(order, np.split(value, len(order)), strict=True))
    return np.concatenate(
        [blocks[gate] if gate in blocks else -blocks[f"-{gate}"] for gate in new_order]
    )


def features(layer: Any) -> int:
    weights = layer.get_weights()
    return weights[0].shape[0]


def random_sequences(*step: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 7, *step)).astype("float32")


def _exact(x: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(x).astype("float64")


def compare(one: Any, other: Any, what: str, tolerance: float) -> None:
    x = random_sequences(*tracing.step_shape(one))
    results = [keras.tree.flatten(layer(x)) for layer in (one, other)]
    gaps = [float(np.abs(_exact(a) - _exact(b)).max()) for a, b in zip(*results, strict=True)]
    parity.check_difference(max(gaps), tolerance, what)


def returning_sequences(layer: Any) -> Callable[[np.ndarray], Any]:
    """The layer as a function that returns only sequences."""
    config = keras.saving.serialize_keras_object(layer)
    for part in parts(config):
        for key, value in (("return_sequences", True), ("return_state", False)):
            if key in part["config"]:
                part["config"][key] = value
    copy = keras.saving.deserialize_keras_object(config)
    if not copy.built:
        copy.build((None, None, features(layer)))
    copy.set_weights(layer.get_weights())
    return copy


def parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object inside, innermost first."""
    values = config.values() if isinstance(config, dict) else config
    if isinstance(config, (dict, list, tuple)):
        for value in values:
            yield from parts(value)
    if isinstance(config, dict) and "class_name" in config and "module" in config:
        yield config
