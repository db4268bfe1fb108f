"""The cell found by neural architecture search (Zoph and Le, 2017).

The tree of the paper's figure, from the leaves: eight pairs of products, combined by addition or
multiplication, then pairs of their results, twice.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import relu, sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    inputs, recurrent = [], []
    for w, u, b in zip(*blocks(weights, 8), strict=True):
        inputs.append(x @ w + b)
        recurrent.append(h_prev @ u)
    joined = [
        i * r if n == 3 else i + r for n, (i, r) in enumerate(zip(inputs, recurrent, strict=True))
    ]
    functions = (sigmoid, relu, sigmoid, relu, activation, sigmoid, activation, sigmoid)
    leaves = [f(p) for f, p in zip(functions, joined, strict=True)]

    of_memory = activation(leaves[0] * leaves[1])
    of_cell = activation(leaves[2] + leaves[3])
    one = activation(leaves[4] * leaves[5])
    other = sigmoid(leaves[6] + leaves[7])
    of_memory = activation(of_memory + c_prev)  # the injected cell state
    c = of_memory * of_cell
    h = activation(c * activation(one + other))
    return h, [h, c]
