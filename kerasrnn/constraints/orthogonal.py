"""The projection of recurrent kernels onto orthogonal matrices."""

from typing import Any

import keras
from keras import ops

Tensor = Any

# The iteration below multiplies small singular values by 1.5 at each step: enough steps for a ratio
# of ten orders of magnitude between the largest and the smallest.
MOST_STEPS = 60


@keras.saving.register_keras_serializable(package="kerasrnn")
class Orthogonal(keras.constraints.Constraint):
    """Projects each gate's block of a recurrent kernel onto the nearest orthogonal matrix.

    A product with an orthogonal matrix preserves norms, so that it makes neither states nor
    gradients explode or vanish. For the blocks U_1, ..., U_n of a kernel `(units, n * units)`, with
    singular value decompositions U_k = P S Q^T:

        U_k <- P Q^T

    which is the orthogonal factor of the polar decomposition, the nearest orthogonal matrix in the
    Frobenius norm (Fan & Hoffman 1955, "Some metric inequalities in the space of matrices"). It is
    computed by the iteration of Newton and Schulz, which consists of matrix products and runs on
    every device: Higham (2008), "Functions of matrices", equation 8.20,

        X <- X (3 I - X^T X) / 2        from X = U_k / c, where c is at least its largest singular
                                        value

    until X^T X = I to working precision. A matrix close to an orthogonal one, such as a kernel
    after a step of training, needs few iterations. A singular matrix has no nearest orthogonal
    matrix, and its zero singular values remain.

    A matrix with more rows than columns is one block, whose columns become orthonormal. For a
    kernel that is orthogonal by construction, see the `recurrent_parametrization` of the cells.

    Raises:
        ValueError: in a call, the weight is not a matrix, or the number of its columns is larger
            than that of its rows, but not a multiple.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> layer = kerasrnn.LSTM(4, recurrent_constraint=kerasrnn.constraints.Orthogonal())
        >>> model = keras.Sequential([keras.Input((None, 2)), layer])
        >>> model.compile("sgd", "mse")
        >>> _ = model.fit(np.ones((8, 5, 2)), np.ones((8, 4)), verbose=0)
        >>> i, f, c, o = np.split(layer.get_weights()[1], 4, axis=1)
        >>> bool(np.allclose(f.T @ f, np.eye(4), atol=1e-5))
        True
    """

    def __call__(self, w: Any) -> Tensor:
        w = ops.convert_to_tensor(w)
        dtype, shape = keras.backend.standardize_dtype(w.dtype), tuple(w.shape)
        if len(shape) != 2 or (shape[1] > shape[0] and shape[1] % shape[0]):
            raise ValueError(
                f"Orthogonal: a weight has the shape {shape}; expected a matrix (units, gates * "
                "units), or one with more rows than columns."
            )
        rows, columns = shape
        width = min(rows, columns)
        x = ops.cast(w, keras.backend.result_type(dtype, "float32"))
        x = ops.transpose(ops.reshape(x, (rows, columns // width, width)), (1, 0, 2))
        x = ops.transpose(_polar_factor(x), (1, 0, 2))
        return ops.cast(ops.reshape(x, shape), dtype)


def _polar_factor(x: Tensor) -> Tensor:
    """The orthogonal factors of matrices `(number, rows, columns)`."""
    absolute = ops.abs(x)
    # At least the largest singular value: the geometric mean of two norms that bound it.
    bound = ops.sqrt(
        ops.max(ops.sum(absolute, axis=1), axis=-1) * ops.max(ops.sum(absolute, axis=2), axis=-1)
    )[:, None, None]
    x = ops.where(bound > 0, x / ops.where(bound > 0, bound, 1), x)
    identity = ops.eye(x.shape[-1], dtype=x.dtype)
    # The error is squared at each step once it is small.
    close = keras.config.epsilon() ** 0.5

    def product(x: Tensor) -> Tensor:
        return ops.matmul(ops.transpose(x, (0, 2, 1)), x)

    def continues(step: Tensor, x: Tensor) -> Tensor:
        return ops.logical_and(step < MOST_STEPS, ops.max(ops.abs(product(x) - identity)) > close)

    def iterated(step: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return step + 1, ops.matmul(x, 1.5 * identity - 0.5 * product(x))

    state = ops.while_loop(continues, iterated, (ops.convert_to_tensor(0), x))
    for _ in range(3):
        state = iterated(*state)
    return state[1]
