"""Outputs and gradients of a layer, the same way on every backend."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

# The whole grid is walked on TensorFlow; other backends run the same cells in a loop of their own.
FIRST_BACKEND = keras.config.backend() == "tensorflow"
# Keras computes float64 partly in float32 on JAX and PyTorch, where 1e-5 is all that can be asked.
PRECISION, TIGHT = ("float64", 1e-10) if FIRST_BACKEND else ("float32", 1e-5)
MASKS = ("none", "mixed")
# In training the loop has a gradient of its own; tests that do not walk this run without it.
TRAINING = (False, True) if FIRST_BACKEND else (True,)
# `jit_compile` of models whose test is not about XLA: graphs on TensorFlow. JAX would run op by op.
WITHOUT_XLA = False if FIRST_BACKEND else "auto"


class Measured(NamedTuple):
    """All outputs of a layer, and all gradients of a random linear function of them."""

    outputs: list[np.ndarray]
    d_inputs: np.ndarray
    d_states: list[np.ndarray]
    d_weights: list[np.ndarray]

    def arrays(self) -> list[np.ndarray]:
        return [*self.outputs, self.d_inputs, *self.d_states, *self.d_weights]


def randomize(layer: keras.layers.Layer, seed: int = 1) -> None:
    """Give a built layer random weights, so that none is at a value that says nothing."""
    random = np.random.default_rng(seed)
    layer.set_weights([0.5 * random.standard_normal(w.shape) for w in layer.get_weights()])


def random_states(
    layer: keras.layers.Layer, batch: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Random values for every state of a built layer or cell."""
    cell = getattr(layer, "cell", layer)
    return [random.standard_normal((batch, *shape)) for shape in cell.state_shapes]


def passing_masks(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer of Keras's that passes masks on, as it did until Keras 3.16, which warns instead."""
    for part in (
        layer,
        *(getattr(layer, f"{way}_layer", layer) for way in ("forward", "backward")),
    ):
        part.supports_masking = True
    return layer


@contextlib.contextmanager
def op_by_op() -> Iterator[None]:
    """On TensorFlow nothing is traced, optimized or compiled: what is written out is computed as it
    is written, in a fraction of the time that its graph would take to make."""
    if not FIRST_BACKEND:
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def to_list(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def measure(
    layer: keras.layers.Layer,
    x: np.ndarray,
    initial_state: Sequence[np.ndarray] | None = None,
    mask: np.ndarray | None = None,
    training: bool = False,
) -> Measured:
    """Call a built layer and differentiate sum(outputs * fixed random numbers)."""
    random = np.random.default_rng(7)
    states = list(initial_state or [])

    def loss_of(outputs: list[Any]) -> Any:
        shapes = [tuple(y.shape) for y in outputs]
        factors = [random.standard_normal(shape) for shape in shapes]
        terms = [
            keras.ops.sum(
                keras.ops.cast(y, PRECISION) * keras.ops.convert_to_tensor(factor, PRECISION)
            )
            for y, factor in zip(outputs, factors, strict=True)
        ]
        return sum(terms[1:], terms[0])

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        x_tensor, state_tensors = tf.constant(x), [tf.constant(s) for s in states]
        weights = [w.value for w in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch([x_tensor, *state_tensors])
            outputs = to_list(
                layer(x_tensor, initial_state=state_tensors or None, mask=mask, training=training)
            )
            loss = loss_of(outputs)
        d_x, d_states, d_weights = tape.gradient(
            loss, [x_tensor, state_tensors, weights], unconnected_gradients="zero"
        )
    elif keras.config.backend() == "torch":
        import torch

        with torch.enable_grad():
            x_tensor, *state_tensors = (torch.tensor(v, requires_grad=True) for v in (x, *states))
            weights = [w.value for w in layer.trainable_weights]
            outputs = to_list(
                layer(x_tensor, initial_state=state_tensors or None, mask=mask, training=training)
            )
            arguments = [x_tensor, *state_tensors, *weights]
            d_x, *d_others = torch.autograd.grad(
                loss_of(outputs), arguments, materialize_grads=True
            )
        d_states, d_weights = d_others[: len(states)], d_others[len(states) :]
    else:
        import jax

        fixed = [v.value for v in layer.non_trainable_variables]

        def forward(x: Any, states: Any, trainable: Any) -> Any:
            results, _ = layer.stateless_call(
                trainable, fixed, x, initial_state=states or None, mask=mask, training=training
            )
            outputs = to_list(results)
            return loss_of(outputs), outputs

        (_, outputs), (d_x, d_states, d_weights) = jax.value_and_grad(
            forward, argnums=(0, 1, 2), has_aux=True
        )(x, states, [v.value for v in layer.trainable_variables])
    to_numpy = keras.ops.convert_to_numpy
    return Measured(
        [to_numpy(y) for y in outputs],
        to_numpy(d_x),
        [to_numpy(d) for d in d_states],
        [to_numpy(d) for d in d_weights],
    )


def assert_same_outputs(
    layer: keras.layers.Layer,
    expected: Measured,
    tolerance: float,
    x: np.ndarray,
    initial_state: Sequence[np.ndarray] | None = None,
    mask: np.ndarray | None = None,
) -> None:
    """Compare the outputs of a layer in inference, without gradients."""
    outputs = to_list(layer(x, initial_state=initial_state, mask=mask))
    outputs = [keras.ops.convert_to_numpy(y) for y in outputs]
    assert_same(expected._replace(outputs=outputs), expected, tolerance)


def assert_same(actual: Measured, expected: Measured, tolerance: float) -> None:
    """Compare array by array, relative to the largest value of each."""
    names = (
        [f"output {n}" for n in range(len(expected.outputs))]
        + ["d_inputs"]
        + [f"d_state {n}" for n in range(len(expected.d_states))]
        + [f"d_weight {n}" for n in range(len(expected.d_weights))]
    )
    for name, a, b in zip(names, actual.arrays(), expected.arrays(), strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=name)


def make_mask(kind: str, batch: int, time: int, seed: int = 0) -> np.ndarray | None:
    """Masks of a kind: none, right-padded, left-padded, gapped; or of all, row by row.

    The rows of a batch do not see each other, so that four of them, "mixed", say as much as four
    batches: fully masked, right-padded, left-padded, gapped.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(1, time + 1, size=batch)
    steps = np.arange(time)
    if kind == "none":
        return None
    if kind == "right":
        return steps < lengths[:, None]
    if kind == "left":
        return steps >= time - lengths[:, None]
    if kind == "gapped":
        mask = random.random((batch, time)) < 0.6
        mask[:, time // 2] = False  # lest chance leave a row whole
        return mask
    if kind == "mixed":
        kinds = [make_mask(each, batch, time, seed) for each in ("right", "left", "gapped")]
        rows = [np.zeros((batch, time), bool), *kinds]
        return np.stack([rows[row % 4][row] for row in range(batch)])
    raise ValueError(kind)
