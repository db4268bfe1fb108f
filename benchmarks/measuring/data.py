"""Data that all contenders share."""

import numpy as np


def weights(shapes: list[tuple[int, ...]], units: int) -> list[np.ndarray]:
    """Random weights, initialized as in torch."""
    random = np.random.default_rng(1)
    return [random.uniform(-1, 1, shape).astype("float32") / units**0.5 for shape in shapes]
