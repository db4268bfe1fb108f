"""A number alone, without a distribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Forecast, full_precision
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Point(Forecast):
    """A point forecast in the units of the targets.

        y = mean + std x

    for the outputs x of a dense layer, which are of the order of 1.

    Args:
        size: how many numbers a target has.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> point = kerasrnn.distributions.Point(mean=1000.0, std=50.0)
        >>> np.asarray(point.parameters(np.array([[2.0]], "float32"))).tolist()
        [[1100.0]]
    """

    size: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        self._check_units(self.size)

    @property
    def sizes(self) -> dict[str, int]:
        return {"value": self.size}

    def parameters(self, raw: Tensor) -> Tensor:
        raw = full_precision(raw)
        self._check_parameters(raw)
        return self._of_units("mean", 0.0, raw) + self._of_units("std", 1.0, raw) * raw

    def point(self, parameters: Tensor) -> Tensor:
        return parameters

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        return ops.abs(parameters - y)
