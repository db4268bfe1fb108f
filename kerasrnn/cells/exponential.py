"""Recurrent kernels that are orthogonal by construction: Lezcano-Casado & Martinez-Rubio (2019)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.validation import Seed

Tensor = Any

DEGREE, BLOCK = 12, 4
"""Degree of the Taylor polynomial, and the highest power of which it is a polynomial."""

NORM = 0.25
"""The largest norm of its argument: the remainder is below 0.25^13 / 13!, that is 3e-18."""

SQUARINGS = 10
"""The most squarings: matrices of norms up to 0.25 * 2^10 are exact to working precision."""


def orthogonal(kernel: Tensor) -> Tensor:
    """Map each block of a kernel to an orthogonal matrix.

    Lezcano-Casado & Martinez-Rubio (2019), "Cheap orthogonal constraints in neural networks: a
    simple parametrization of the orthogonal and unitary group", equation 4: every matrix of
    determinant 1 is the exponential of a skew-symmetric one. For the blocks X_1, ..., X_n of a
    kernel `(units, n * units)`:

        A_k = triu(X_k) - triu(X_k)^T        the entries above the diagonal
        U_k = exp(A_k)

    The entries of X_k on and below its diagonal have no effect.

    Returns:
        U_1, ..., U_n, `(units, n * units)`.
    """
    rows, columns = kernel.shape
    x = ops.transpose(ops.reshape(kernel, (rows, columns // rows, rows)), (1, 0, 2))
    upper = x * ops.convert_to_tensor(np.triu(np.ones((rows, rows)), 1), x.dtype)
    u = exponential(upper - ops.transpose(upper, (0, 2, 1)))
    return ops.reshape(ops.transpose(u, (1, 0, 2)), (rows, columns))


def exponential(matrices: Tensor) -> Tensor:
    """The matrix exponentials of `(number, n, n)`.

    A Taylor polynomial, after a division by a power of 2, and as many squarings (Higham 2008,
    "Functions of matrices", section 10.3). It consists of matrix products, so that it has a
    gradient on every backend, and every format of the exports supports it.
    """
    # 1-norms, which bound the spectral norms. The number of squarings has no gradient.
    norm = ops.max(ops.sum(ops.abs(ops.stop_gradient(matrices)), axis=1))
    squarings = ops.ceil(ops.log2(ops.maximum(norm / NORM, 1)))
    squarings = ops.minimum(squarings, SQUARINGS)
    x = matrices * ops.power(ops.cast(0.5, matrices.dtype), squarings)
    powers = [ops.eye(x.shape[-1], dtype=x.dtype), x]
    for _ in range(2, BLOCK + 1):
        powers.append(ops.matmul(powers[-1], x))

    def polynomial(first: int, last: int) -> Tensor:
        terms = [power / math.factorial(first + k) for k, power in enumerate(powers)]
        return sum(terms[1 : last - first + 1], terms[0])

    # In blocks of as many terms, each times a power of x^BLOCK: Paterson & Stockmeyer (1973).
    result = polynomial(DEGREE - BLOCK, DEGREE)
    for first in range(DEGREE - 2 * BLOCK, -1, -BLOCK):
        result = polynomial(first, first + BLOCK - 1) + ops.matmul(powers[BLOCK], result)
    for n in range(SQUARINGS):
        result = ops.where(n < squarings, ops.matmul(result, result), result)
    return result


@keras.saving.register_keras_serializable(package="kerasrnn")
class RotationInitializer(keras.initializers.RandomUniform):
    """Initial kernels for `recurrent_parametrization="exponential"`: rotations in planes.

    Each block of the kernel pairs its units. The exponential of its skew-symmetric part rotates
    unit 2k and unit 2k + 1 by an angle s_k; an odd unit remains as it is. Two distributions are
    those of Lezcano-Casado & Martinez-Rubio (2019), section 4.3:

        s_k ~ U[-pi, pi]                                            "henaff"
        s_k = -sqrt((1 - cos u_k) / (1 + cos u_k)),   u_k ~ U[0, pi / 2]        "cayley"

    The former is that of Henaff, Szlam & LeCun (2016), "Recurrent orthogonal networks and
    long-memory tasks"; the latter, with smaller angles, that of Helfrich, Willmott & Ye (2018),
    "Orthogonal recurrent neural networks with scaled Cayley transform".

    Args:
        angles: "henaff" or "cayley": the distribution of the angles.
        seed: integer that makes the initialization reproducible.

    Raises:
        ValueError: `angles` is unknown; in a call, the kernel does not consist of square blocks.

    Example:

        >>> import numpy as np, kerasrnn
        >>> rotations = kerasrnn.RotationInitializer("cayley", seed=0)
        >>> layer = kerasrnn.SimpleRNN(
        ...     6, recurrent_parametrization="exponential", recurrent_initializer=rotations)
        >>> layer.build((None, None, 3))
        >>> u = layer.cell.weights_by_name()["recurrent_kernel"]
        >>> bool(np.allclose(np.transpose(u) @ u, np.eye(6), atol=1e-5))
        True
    """

    @validation.checked
    def __init__(
        self,
        angles: Literal["henaff", "cayley"] = "cayley",
        seed: Seed | dict[str, Any] | None = None,
    ) -> None:
        bounds = (-np.pi, np.pi) if angles == "henaff" else (0, np.pi / 2)
        super().__init__(*bounds, seed)
        self.angles = angles

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        if len(shape) != 2 or shape[1] % shape[0]:
            raise ValueError(
                f"shape={tuple(shape)}: expected a recurrent kernel (units, gates * units)."
            )
        rows, columns = shape
        drawn = super().__call__((columns // rows, (rows + 1) // 2, 1), dtype)
        if self.angles == "cayley":
            drawn = -ops.tan(drawn / 2)
        # At (0, 1), (2, 3), ...; the last column, of an odd unit, is not in the matrix.
        above = ops.reshape(
            ops.concatenate([drawn, ops.zeros_like(drawn)], axis=-1), (-1, 2 * drawn.shape[1], 1)
        )
        blocks = above[:, :rows] * ops.eye(rows, k=1, dtype=drawn.dtype)
        return ops.reshape(ops.transpose(blocks, (1, 0, 2)), (rows, columns))

    def get_config(self) -> dict[str, Any]:
        return {"angles": self.angles, "seed": super().get_config()["seed"]}
