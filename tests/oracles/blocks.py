"""The columns of a cell's weights, gate by gate."""

import numpy as np

Weights = dict[str, np.ndarray]


def blocks(weights: Weights, gates: int) -> tuple[list, list, list]:
    """Each gate's columns of the kernel, the recurrent kernel and the bias (zeros without one)."""
    kernels, recurrent_kernels = (
        np.split(weights[name], gates, axis=1) for name in ("kernel", "recurrent_kernel")
    )
    biases = np.split(weights["bias"], gates) if "bias" in weights else [0.0] * gates
    return kernels, recurrent_kernels, biases
