"""The normal distribution, and that of two correlated numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Distribution, full_precision, probability
from kerasrnn.distributions.special import LOG_2PI, normal_cdf, normal_density
from kerasrnn.validation import ArgumentError, PositiveInteger

Tensor = Any

SMALLEST = 1e-6
"""The smallest scale, in units of `std`: the likelihood of a target that can be predicted exactly
has no maximum."""
LARGEST_CORRELATION = 1 - 1e-4


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Normal(Distribution):
    """A normal distribution of each number of a target.

        y ~ N(mu, sigma^2)
        mu = mean + std a,   sigma = std (softplus(b) + 1e-6)

    for the outputs a and b of a dense layer. With `correlated`, the two numbers of a target have
    the correlation rho = 0.9999 tanh(c), as in Graves (2013), "Generating sequences with recurrent
    neural networks", section 4.1.

    The parameters are "mean" mu, "std" sigma, `size` numbers each, and "correlation" rho.

    Args:
        size: how many numbers a target has.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1. With both, the dense layer computes numbers of the order of 1, whatever the
            units of the targets are.
        correlated: whether the numbers of a target, then two, are correlated; otherwise they are
            independent.
        point_of: the point forecast, "mean" or "median", which are the same here.

    Raises:
        ValueError: an argument is out of its range; `correlated` with a size other than 2.

    Example: the central interval of 90%.

        >>> import numpy as np, kerasrnn
        >>> normal = kerasrnn.distributions.Normal(mean=50.0, std=10.0)
        >>> p = normal.parameters(np.array([[0.3, 0.0]], "float32"))
        >>> {name: round(float(x[0, 0]), 2) for name, x in normal.split(p).items()}
        {'mean': 53.0, 'std': 6.93}
        >>> [round(float(normal.quantile(p, level)[0, 0]), 1) for level in (0.05, 0.95)]
        [41.6, 64.4]
    """

    size: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    correlated: bool = False
    point_of: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        if self.correlated and self.size != 2:
            raise ArgumentError("correlated", True, f"False for size={self.size}; size=2")
        self._check_units(self.size)

    @property
    def sizes(self) -> dict[str, int]:
        sizes = {"mean": self.size, "std": self.size}
        return sizes | {"correlation": 1} if self.correlated else sizes

    def parameters(self, raw: Tensor) -> Tensor:
        raw = self.split(full_precision(raw))
        std = self._of_units("std", 1.0, raw["std"])
        parts = [
            self._of_units("mean", 0.0, raw["mean"]) + std * raw["mean"],
            std * (ops.softplus(raw["std"]) + SMALLEST),
        ]
        if self.correlated:
            parts.append(LARGEST_CORRELATION * ops.tanh(raw["correlation"]))
        return ops.concatenate(parts, axis=-1)

    def log_prob(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        z = (y - p["mean"]) / p["std"]
        log_scale = ops.sum(ops.log(p["std"]), axis=-1)
        if self.correlated:
            first, second, rho = z[..., 0], z[..., 1], p["correlation"][..., 0]
            left = (1 - rho) * (1 + rho)  # 1 - rho^2, with all its digits
            square = first * first + ops.square(second - rho * first) / left
            log_scale = log_scale + 0.5 * ops.log(left)
        else:
            square = ops.sum(z * z, axis=-1)
        return -0.5 * (square + self.size * LOG_2PI) - log_scale

    def expectation(self, parameters: Tensor) -> Tensor:
        return self.split(full_precision(parameters))["mean"]

    def cdf(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        return normal_cdf((y - p["mean"]) / p["std"])

    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        parts = self.split(full_precision(parameters))
        return parts["mean"] + standard_quantile(probability(p)) * parts["std"]

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), with z = (y - mu) / sigma."""
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        z = (y - p["mean"]) / p["std"]
        score = z * (2 * normal_cdf(z) - 1) + 2 * normal_density(z) - 1 / math.sqrt(math.pi)
        return p["std"] * score

    @property
    def noise_count(self) -> int:
        return 2 * self.size

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        p = self.split(full_precision(parameters))
        z = polar(noise[..., : self.size], noise[..., self.size :])
        if self.correlated:
            rho = p["correlation"]
            left = ops.sqrt((1 - rho) * (1 + rho))
            z = ops.concatenate([z[..., :1], rho * z[..., :1] + left * z[..., 1:]], axis=-1)
        return p["mean"] + p["std"] * z

    def sharpened(self, parameters: Tensor, bias: float) -> Tensor:
        p = self.split(full_precision(parameters))
        p["std"] = p["std"] * math.exp(-bias)
        return ops.concatenate(list(p.values()), axis=-1)


def polar(radius: Tensor, angle: Tensor) -> Tensor:
    """Standard normal numbers from two uniform ones in [0, 1) each (Box & Muller 1958)."""
    return ops.sqrt(-2 * ops.log1p(-radius)) * ops.cos(2 * math.pi * angle)


def standard_quantile(p: float) -> float:
    """The quantile of the standard normal distribution, of a known probability."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)
