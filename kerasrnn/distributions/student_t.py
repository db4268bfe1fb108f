"""Student's t distribution, for targets with outliers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Distribution, full_precision, probability
from kerasrnn.distributions.normal import SMALLEST
from kerasrnn.distributions.special import (
    LOG_2PI,
    bisected,
    incomplete_beta,
    log_gamma_step,
    stirling_error,
)
from kerasrnn.validation import PositiveInteger

Tensor = Any

PRECISION = 1e-8
"""That of quantiles, in units of the scale, relative if they are far from the center."""


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class StudentT(Distribution):
    """A t distribution of each number of a target, which are independent.

        (y - mu) / sigma ~ t_nu
        mu = mean + std a,   sigma = std (softplus(b) + 1e-6),   nu = 2 + softplus(c)

    for the outputs a, b and c of a dense layer. It has heavier tails than the normal distribution,
    so that outliers have less influence; with more than two degrees of freedom nu, it has a mean
    and a variance, which is sigma^2 nu / (nu - 2).

    The parameters are "location" mu, "scale" sigma and "freedom" nu, `size` numbers each.

    Args:
        size: how many numbers a target has.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.
        point_of: the point forecast, "mean" or "median", which are the same here.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> t = kerasrnn.distributions.StudentT()
        >>> p = np.array([[0.0, 1.0, 3.0]], "float32")
        >>> round(float(t.quantile(p, 0.975)[0, 0]), 3)
        3.182
    """

    size: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    point_of: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        self._check_units(self.size)

    @property
    def sizes(self) -> dict[str, int]:
        return dict.fromkeys(("location", "scale", "freedom"), self.size)

    def parameters(self, raw: Tensor) -> Tensor:
        raw = self.split(full_precision(raw))
        std = self._of_units("std", 1.0, raw["scale"])
        parts = [
            self._of_units("mean", 0.0, raw["location"]) + std * raw["location"],
            std * (ops.softplus(raw["scale"]) + SMALLEST),
            2 + ops.softplus(raw["freedom"]),
        ]
        return ops.concatenate(parts, axis=-1)

    def log_prob(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        z, nu = (y - p["location"]) / p["scale"], p["freedom"]
        half = nu / 2
        constant = stirling_error(half + 0.5) - stirling_error(half) + half * ops.log1p(0.5 / half)
        density = constant - 0.5 - 0.5 * LOG_2PI - (half + 0.5) * _log_of_tail(z, nu)
        return ops.sum(density - ops.log(p["scale"]), axis=-1)

    def expectation(self, parameters: Tensor) -> Tensor:
        return self.split(full_precision(parameters))["location"]

    def cdf(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        return _cdf((y - p["location"]) / p["scale"], p["freedom"])

    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        p = probability(p)
        parts = self.split(full_precision(parameters))
        if p == 0.5:
            return parts["location"]
        # Bisected in log(1 + |z|), so that it has as many digits far from the center as near it.
        tail, sign = min(p, 1 - p), math.copysign(1, p - 0.5)
        nu = ops.stop_gradient(parts["freedom"])
        found = bisected(
            lambda distance: _cdf(-ops.expm1(distance), nu) <= tail,
            ops.zeros_like(nu),
            ops.ones_like(nu) * math.log(1 + 8 / tail),
            PRECISION,
        )
        return parts["location"] + sign * parts["scale"] * ops.expm1(found)

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """Jordan et al. (2019), "Evaluating probabilistic forecasts with scoringRules"."""
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        nu = p["freedom"]
        standard = ops.concatenate([ops.zeros_like(nu), ops.ones_like(nu), nu], axis=-1)
        z = (y - p["location"]) / p["scale"]
        one = StudentT(1)
        each = ops.stack(ops.split(standard, 3, axis=-1), axis=-1)  # (..., size, 3)
        density = ops.exp(one.log_prob(each, ops.expand_dims(z, -1)))
        log_ratio = 2 * log_gamma_step(nu / 2) - log_gamma_step(nu - 0.5)
        spread = 2 * ops.sqrt(nu / math.pi) / (nu - 1) * ops.exp(log_ratio)
        score = z * (2 * _cdf(z, nu) - 1) + 2 * density * (nu + z * z) / (nu - 1) - spread
        return p["scale"] * score

    @property
    def noise_count(self) -> int:
        return 2 * self.size

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Bailey (1994), "Polar generation of random variates with the t-distribution"."""
        p = self.split(full_precision(parameters))
        nu = p["freedom"]
        log_u = ops.log1p(-noise[..., : self.size])
        radius = ops.sqrt(nu * ops.expm1(-2 / nu * log_u))
        z = radius * ops.cos(2 * math.pi * noise[..., self.size :])
        return p["location"] + p["scale"] * z

    def sharpened(self, parameters: Tensor, bias: float) -> Tensor:
        p = self.split(full_precision(parameters))
        p["scale"] = p["scale"] * math.exp(-bias)
        return ops.concatenate(list(p.values()), axis=-1)


def _log_of_tail(z: Tensor, nu: Tensor) -> Tensor:
    """log(1 + z^2 / nu); z^2 may be infinite."""
    far = ops.abs(z) > 1e8
    near = ops.where(far, 1, z)
    distance = ops.abs(ops.where(far, z, 1))
    return ops.where(far, 2 * ops.log(distance) - ops.log(nu), ops.log1p(near * near / nu))


def _cdf(z: Tensor, nu: Tensor) -> Tensor:
    square = z * z
    both, _ = incomplete_beta(
        nu / 2, ops.ones_like(nu) / 2, nu / (nu + square), square / (nu + square)
    )
    return ops.where(z > 0, 1 - both / 2, both / 2)
