"""Quantiles of a target, without a distribution between them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Forecast, full_precision
from kerasrnn.validation import ArgumentError, PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Quantiles(Forecast):
    """Quantiles of each number of a target, which do not cross.

        q_m = mean + std a_m
        q_i = q_{i-1} + std softplus(a_i)  above it,   q_i = q_{i+1} - std softplus(a_i)  below it

    for the outputs a of a dense layer and the level m in the middle. The parameters are the
    quantiles, `(..., len(levels))`, or with `size` numbers those of the first number, those of the
    second, and so on.

    Args:
        levels: increasing probabilities in (0, 1).
        size: how many numbers a target has.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.

    Raises:
        ValueError: an argument is out of its range, or the levels do not increase.

    Example:

        >>> import numpy as np, kerasrnn
        >>> quantiles = kerasrnn.distributions.Quantiles((0.1, 0.5, 0.9))
        >>> q = quantiles.parameters(np.array([[0.0, 7.0, 0.0]], "float32"))
        >>> [round(float(x), 2) for x in q[0]]
        [6.31, 7.0, 7.69]
    """

    levels: Sequence[float]
    size: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        expected = "increasing probabilities in (0, 1)"
        if isinstance(self.levels, str) or not isinstance(self.levels, Sequence):
            raise ArgumentError("levels", self.levels, expected)
        levels = tuple(
            validation.number(f"levels[{n}]", level, above=0, below=1)
            for n, level in enumerate(self.levels)
        )
        if not levels or any(a >= b for a, b in itertools.pairwise(levels)):
            raise ArgumentError("levels", self.levels, expected)
        self._store("levels", levels)
        self._check_units(self.size)

    @property
    def sizes(self) -> dict[str, int]:
        return {"quantiles": self.size * len(self.levels)}

    def parameters(self, raw: Tensor) -> Tensor:
        raw = full_precision(raw)
        of_each, middle = self._each(raw), len(self.levels) // 2
        steps = ops.softplus(of_each)
        center = of_each[..., middle : middle + 1]
        above = center + ops.cumsum(steps[..., middle + 1 :], axis=-1)
        below = center - ops.flip(ops.cumsum(ops.flip(steps[..., :middle], -1), axis=-1), -1)
        values = ops.concatenate([below, center, above], axis=-1)
        mean = ops.expand_dims(self._of_units("mean", 0.0, raw), -1)
        std = ops.expand_dims(self._of_units("std", 1.0, raw), -1)
        return ops.reshape(mean + std * values, ops.shape(raw))

    def point(self, parameters: Tensor) -> Tensor:
        """The median, or the quantile whose level is closest to it."""
        return self._each(full_precision(parameters))[..., self._nearest(0.5)]

    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        """The quantile of a level, `(..., size)`.

        Args:
            parameters: `(..., count)`.
            p: one of the levels.

        Raises:
            ValueError: p is not one of the levels.
        """
        p = validation.number("p", p)
        self.check_level("p", p)
        parameters = self.split(full_precision(parameters))["quantiles"]
        return self._each(parameters)[..., self._nearest(p)]

    def pinball(self, parameters: Tensor, y: Tensor) -> Tensor:
        """max(tau e, (tau - 1) e) with e = y - q_tau, `(..., size, levels)`.

        Koenker & Bassett (1978), "Regression quantiles".
        """
        parameters, y = self._matching(parameters, y)
        error = ops.expand_dims(y, -1) - self._each(parameters)
        levels = ops.convert_to_tensor(self.levels, dtype=parameters.dtype)
        return ops.maximum(levels * error, (levels - 1) * error)

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """Twice the mean pinball loss: close to the CRPS if the levels are evenly spaced."""
        return 2 * ops.mean(self.pinball(parameters, y), axis=-1)

    def below(self, parameters: Tensor, y: Tensor, level: float) -> Tensor:
        self.check_level("level", level)
        parameters, y = self._matching(parameters, y)
        return ops.cast(y <= self._each(parameters)[..., self._nearest(level)], parameters.dtype)

    def check_level(self, name: str, level: float) -> None:
        if abs(self.levels[self._nearest(level)] - level) >= 1e-6:
            raise ArgumentError(name, level, f"one of the levels {list(self.levels)}")

    def _nearest(self, level: float) -> int:
        """The place of the level that is closest to another one."""
        return min(range(len(self.levels)), key=lambda n: abs(self.levels[n] - level))

    def _each(self, values: Tensor) -> Tensor:
        """`(..., size, levels)`"""
        self._check_parameters(values)
        shape = tuple(ops.shape(values))[:-1]
        return ops.reshape(values, (*shape, self.size, len(self.levels)))
