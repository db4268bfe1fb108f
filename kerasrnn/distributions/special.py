"""Special functions for log-likelihoods, with operations of `keras.ops`.

Keras has no log-gamma function. Differences of log-gamma functions of large numbers, as in the
likelihood of counts, would have no digits left in float32. Here the large parts cancel on paper,
after Loader (2000), "Fast and accurate computation of binomial probabilities".
"""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any

LOG_2PI = math.log(2 * math.pi)
SHIFT = 8
"""How far the argument of the log-gamma function is moved to where Stirling's series holds."""
TERMS = 3000
"""Maximum number of terms of a continued fraction, which stops when it has converged."""
PRECISION = 5e-7


def stirling_error(x: Tensor) -> Tensor:
    """log Gamma(x + 1) - (x + 1/2) log x + x - log(2 pi) / 2, for x > 0.

    Stirling's series at x + 8, minus the logarithms of the factors in between.
    """
    above = x + SHIFT
    inverse = 1 / above
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    factors = ops.ones_like(x)
    for n in range(1, SHIFT):  # the factor x + 8 is `above` itself
        factors = factors * ((x + n) * inverse)
    return (x + 0.5) * ops.log1p(SHIFT / x) - SHIFT + series - ops.log(factors)


def log_gamma_step(x: Tensor) -> Tensor:
    """log Gamma(x + 1/2) - log Gamma(x), for x > 0."""
    difference = stirling_error(x + 0.5) - stirling_error(x)
    return difference + x * ops.log1p(0.5 / x) + ops.log(x) / 2 - 0.5


def excess(d: Tensor, ratio: Tensor) -> Tensor:
    """d - log(1 + d), given both d and 1 + d, so that neither has lost its digits."""
    near = ops.abs(d) < 0.1
    small = ops.where(near, d, 0)
    series = ops.zeros_like(d)
    for n in range(9, 1, -1):
        series = 1 / n - small * series
    return ops.where(near, small * small * series, d - ops.log(ops.where(near, 1, ratio)))


def normal_cdf(z: Tensor) -> Tensor:
    """The distribution function of the standard normal distribution."""
    return 0.5 * (1 + ops.erf(z / math.sqrt(2)))


def normal_density(z: Tensor) -> Tensor:
    return ops.exp(-0.5 * (z * z + LOG_2PI))


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The regularized incomplete beta function I_x(a, b), with y = 1 - x, and 1 - I_x(a, b).

    Without a gradient. The smaller one has all its digits.

    By the continued fraction of Didonato & Morris (1992), "Algorithm 708: significant digit
    computation of the incomplete beta function ratios", in which nothing cancels below the mean of
    the beta distribution, evaluated with the algorithm of Lentz (1976).
    """
    a, b, x, y = (ops.stop_gradient(each) for each in (a, b, x, y))
    # The fraction converges fast below the mean, a / (a + b).
    swapped = b * x > a * y
    a, b = ops.where(swapped, b, a), ops.where(swapped, a, b)
    x, y = ops.where(swapped, y, x), ops.where(swapped, x, y)
    tiny = 1e-30
    safe = ops.maximum(x, tiny)
    # x^a y^b / B(a, b), as a probability of a binomial distribution of a + b trials.
    n = a + b
    distance = b * safe - a * y
    log_p = stirling_error(n) - stirling_error(a) - stirling_error(b)
    log_p = log_p - a * excess(distance / a, n * safe / a)
    log_p = log_p - b * excess(-distance / b, ops.maximum(n * y / b, tiny))
    front = ops.exp(log_p) * ops.sqrt(b / (2 * math.pi * a * n))

    def bounded(value: Tensor) -> Tensor:
        return ops.where(ops.abs(value) < tiny, tiny, value)

    def converging(m: Tensor, c: Tensor, d: Tensor, h: Tensor, change: Tensor) -> Tensor:
        return ops.logical_and(m < TERMS, ops.any(ops.abs(change - 1) > PRECISION))

    def denominator(m: Tensor) -> Tensor:
        first = m * (b - m) * x / (a + 2 * m - 1)
        return m + first + (a + m) / (a + 2 * m + 1) * (1 - distance + m * (2 - x))

    def term(m: Tensor, c: Tensor, d: Tensor, h: Tensor, change: Tensor) -> list[Tensor]:
        k, unfinished = ops.cast(m, x.dtype), ops.abs(change - 1) > PRECISION
        ratio = 1 / (a + 2 * k - 1)
        numerator = (a + k - 1) * ratio * ((n + k - 1) * ratio * x) * (k * (b - k) * x)
        bottom = denominator(k)
        d = 1 / bounded(bottom + numerator * d)
        c = bounded(bottom + numerator / c)
        # What has converged stays: further factors would add their rounding.
        h = ops.where(unfinished, h * c * d, h)
        return [m + 1, c, d, h, ops.where(unfinished, c * d, 1)]

    first = bounded(a / (a + 1) * (1 - distance))
    zero = ops.zeros_like(first)
    start = [ops.convert_to_tensor(1, dtype="int32"), first, zero, first, zero]
    h = a / ops.while_loop(converging, term, start)[3]
    value = ops.where(x > tiny, ops.clip(front * h, 0, 1), 0)
    return ops.where(swapped, 1 - value, value), ops.where(swapped, value, 1 - value)


def bisected(
    reached: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    precision: Any = 0.0,
    whole: bool = False,
) -> Tensor:
    """The smallest number above `low` that is `reached`, as `high` is; without a gradient.

    Args:
        reached: a function of numbers between the bounds: False up to some number, then True.
        low: the lower bound.
        high: the upper bound.
        precision: the largest difference from the result. Rounding may allow no smaller one.
        whole: whether the bounds and the result are integers.
    """
    low, high = ops.stop_gradient(low), ops.stop_gradient(high)

    def middle_of(low: Tensor, high: Tensor) -> Tensor:
        middle = low / 2 + high / 2
        return ops.floor(middle) if whole else middle

    def unfinished(low: Tensor, high: Tensor) -> Tensor:
        middle = middle_of(low, high)
        return ops.any((middle > low) & (middle < high) & (high - low > precision))

    def step(low: Tensor, high: Tensor) -> list[Tensor]:
        middle = middle_of(low, high)
        enough = reached(middle)
        return [ops.where(enough, low, middle), ops.where(enough, middle, high)]

    return ops.while_loop(unfinished, step, [low, high])[1]
