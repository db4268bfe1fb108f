"""The negative binomial distribution, for counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import (
    Distribution,
    full_precision,
    probability,
    units,
)
from kerasrnn.distributions.special import (
    LOG_2PI,
    bisected,
    excess,
    incomplete_beta,
    stirling_error,
)
from kerasrnn.validation import PositiveInteger

Tensor = Any

SMALLEST = 1e-6
"""The smallest mean, in units of the mean of the targets, and the smallest dispersion."""


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class NegativeBinomial(Distribution):
    """A negative binomial distribution of each number of a target: counts 0, 1, 2, ...

        p(y) = Gamma(y + r) / (Gamma(r) y!) (r / (r + mu))^r (mu / (r + mu))^y,   r = 1 / alpha
        mu = mean (softplus(a) + 1e-6),   alpha = softplus(b) + 1e-6

    for the outputs a and b of a dense layer, as in Salinas et al. (2020), "DeepAR: probabilistic
    forecasting with autoregressive recurrent networks". The variance is mu + alpha mu^2: that of
    Poisson's distribution, and more by the dispersion alpha.

    The parameters are "mean" mu and "dispersion" alpha, `size` numbers each. A network reads counts
    divided by the mean of the training data.

    Args:
        size: how many numbers a target has.
        mean: mean of the targets over the training data, positive, or one for each number;
            default 1.
        point_of: the point forecast, "mean" or "median"; the median is a count.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> counts = kerasrnn.distributions.NegativeBinomial()
        >>> p = np.array([[3.0, 0.5]], "float32")
        >>> [float(counts.quantile(p, level)[0, 0]) for level in (0.1, 0.5, 0.9)]
        [0.0, 2.0, 7.0]
    """

    size: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    point_of: Literal["mean", "median"] = "mean"

    discrete: ClassVar[bool] = True
    support: ClassVar[str] = "counts, integers of at least 0"

    def __post_init__(self) -> None:
        self._store("mean", units("mean", self.mean, self.size, above=0))

    def standardized(self, y: Tensor) -> Tensor:
        """y / mean."""
        return y if self.mean is None else y / self._of_units("mean", 1.0, y)

    @property
    def sizes(self) -> dict[str, int]:
        return dict.fromkeys(("mean", "dispersion"), self.size)

    def supported(self, y: Tensor) -> Tensor:
        return ops.logical_and(ops.isfinite(y), ops.logical_and(y >= 0, ops.floor(y) == y))

    def parameters(self, raw: Tensor) -> Tensor:
        raw = self.split(full_precision(raw))
        mean = self._of_units("mean", 1.0, raw["mean"]) * (ops.softplus(raw["mean"]) + SMALLEST)
        return ops.concatenate([mean, ops.softplus(raw["dispersion"]) + SMALLEST], axis=-1)

    def log_prob(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        mu, alpha = p["mean"], p["dispersion"]
        r = 1 / alpha
        valid = self.supported(y)
        positive = ops.logical_and(valid, y > 0)
        k, n = ops.where(positive, y, 1), ops.where(positive, y, 1) + r
        # With the saddle point of both factors, so that nothing large cancels.
        d = (k - mu) / (r + mu)
        log_p = 0.5 * (ops.log(r / n) - ops.log(k) - LOG_2PI)
        log_p = log_p + stirling_error(n) - stirling_error(r) - stirling_error(k)
        log_p = (
            log_p - r * excess(d, n / (r + mu)) - k * excess(-d * (r / k), n / k * mu / (r + mu))
        )
        log_p = ops.where(positive, log_p, -_log1p_over(alpha, mu))
        return ops.sum(ops.where(valid, log_p, np.nan), axis=-1)

    def expectation(self, parameters: Tensor) -> Tensor:
        return self.split(full_precision(parameters))["mean"]

    def cdf(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        return _cdf(p["mean"], 1 / p["dispersion"], y)

    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        parts = self.split(full_precision(parameters))
        p = probability(p)
        return _quantile(parts["mean"], parts["dispersion"], p, 1 - p)

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """E|Y - y| - E|Y - Y'| / 2 (Wei & Held 2014, "Calibration tests for count data")."""
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        mu, r = p["mean"], 1 / p["dispersion"]
        distance = y * (2 * _cdf(mu, r, y) - 1)
        # The same probability of success with r + 1: the mean is larger by its ratio.
        distance = distance - mu * (2 * _cdf(mu * (1 + 1 / r), r + 1, y - 1) - 1)
        return distance - _half_difference(mu, r)

    @property
    def noise_count(self) -> int:
        return self.size

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        p = self.split(full_precision(parameters))
        return _quantile(p["mean"], p["dispersion"], noise, 1 - noise)


def _log1p_over(alpha: Tensor, mu: Tensor) -> Tensor:
    """log(1 + alpha mu) / alpha = -log p(0)."""
    return ops.log1p(alpha * mu) / alpha


def _cdf(mu: Tensor, r: Tensor, y: Tensor) -> Tensor:
    return _both_tails(mu, r, y)[0]


def _both_tails(mu: Tensor, r: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """P(Y <= y) and P(Y > y)."""
    k = ops.floor(y)
    below, above = incomplete_beta(r, ops.maximum(k, 0) + 1, r / (r + mu), mu / (r + mu))
    return ops.where(k < 0, 0, below), ops.where(k < 0, 1, above)


def _quantile(mu: Tensor, alpha: Tensor, p: Any, q: Any) -> Tensor:
    """The smallest count k with P(Y <= k) >= p, given p and q = 1 - p."""
    mu, alpha = ops.stop_gradient(mu), ops.stop_gradient(alpha)

    def reached(k: Tensor) -> Tensor:
        below, above = _both_tails(mu, 1 / alpha, k)
        # The smaller probability has more digits.
        return ops.where(ops.convert_to_tensor(p < q), below >= p, above <= q)

    low = -ops.ones_like(mu)  # P(Y <= low) < p <= P(Y <= high), unless p is 0
    high = ops.ceil(64 * (1 + mu) * (1 + alpha))
    return ops.maximum(bisected(reached, low, high, whole=True), 0)


def _half_difference(mu: Tensor, r: Tensor) -> Tensor:
    """E|Y - Y'| / 2 = mu (1 + mu / r) F(r + 1, 1/2; 2; -x), with x = 4 (mu / r) (1 + mu / r).

    Euler's integral of the hypergeometric function, with t = sin^2(theta) and sinh(v) =
    sqrt(1 + x) tan(theta), decays exponentially in v.
    """
    g = 1 / (1 + 4 * (mu / r) * (1 + mu / r))

    def log_f(v: Tensor, g: Tensor, r: Tensor) -> Tensor:
        square = ops.square(ops.sinh(v))
        return (r - 1) * ops.log1p(g * square) - (r + 0.5) * ops.log1p(square)

    low, end = ops.zeros_like(mu), 20 * ops.ones_like(mu)
    for _ in range(20):  # to where the function has vanished
        middle = (low + end) / 2
        vanished = log_f(middle, g, r) < -18
        low, end = ops.where(vanished, low, middle), ops.where(vanished, middle, end)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    nodes = ops.convert_to_tensor((nodes + 1) / 2, dtype=mu.dtype)
    weights = ops.convert_to_tensor(weights / 2, dtype=mu.dtype)
    values = log_f(ops.expand_dims(end, -1) * nodes, ops.expand_dims(g, -1), ops.expand_dims(r, -1))
    integral = end * ops.sum(weights * ops.exp(values), axis=-1)
    return mu * (1 + mu / r) * 4 / math.pi * ops.sqrt(g) * integral
