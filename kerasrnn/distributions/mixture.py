"""Mixtures of normal distributions, with flags such as the end of a pen's stroke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Distribution, full_precision, probability
from kerasrnn.distributions.normal import Normal
from kerasrnn.distributions.special import bisected, normal_cdf, normal_density
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import ArgumentError, NonNegativeInteger, PositiveInteger

Tensor = Any

TINY = 1e-37
"""Smaller weights are 0: the gradients of their logarithms would overflow."""
HALF_A_DIGIT = 2.0**-25
"""Half the difference between 1 and the largest float32 below it."""
PRECISION = 1e-6
"""That of quantiles, in units of the smallest scale."""


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Mixture(Distribution):
    """A mixture of normal distributions: a mixture density network (Bishop 1994).

        p(y) = sum_i w_i N(y; mu_i, Sigma_i) prod_j q_j^{e_j} (1 - q_j)^{1 - e_j}
        w = softmax(a),   q = sigmoid(c)

    for outputs a and c of a dense layer, and the parameters of the components as in `Normal`. A
    component has all numbers of a target, which may be correlated. The last `flags` numbers e of a
    target are 0 or 1, independent of the others: with `Mixture(Normal(2, correlated=True), 20,
    flags=1)`, targets are the offsets of a pen and whether the stroke ends (Graves 2013,
    "Generating sequences with recurrent neural networks", section 4.1).

    The parameters are "weight" w, `components` numbers; then those of the first component, those of
    the second, and so on, as "component"; then "flag" q.

    Args:
        component: a `Normal`, with the mean and the standard deviation of the targets, from which
            flags are excluded.
        components: how many components.
        flags: how many flags follow the numbers of a target.
        point_of: the point forecast of numbers, "mean" or "median". That of a flag is its
            probability.

    Raises:
        ValueError: an argument is out of its range.

    Example: two peaks.

        >>> import numpy as np, kerasrnn
        >>> mixture = kerasrnn.distributions.Mixture(kerasrnn.distributions.Normal(), 2)
        >>> p = np.array([[0.25, 0.75, -5.0, 1.0, 5.0, 1.0]], "float32")
        >>> float(mixture.expectation(p)[0, 0]), round(float(mixture.quantile(p, 0.5)[0, 0]), 2)
        (2.5, 4.57)
    """

    component: Normal
    components: PositiveInteger
    flags: NonNegativeInteger = 0
    point_of: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.component, Normal):
            raise ArgumentError("component", self.component, "a kerasrnn.distributions.Normal")

    @property
    def size(self) -> int:
        return self.component.size + self.flags

    @property
    def support(self) -> str:  # type: ignore[override]
        return (
            f"finite numbers, of which the last {self.flags} are 0 or 1"
            if self.flags
            else ("finite numbers")
        )

    def supported(self, y: Tensor) -> Tensor:
        numbers, flags = self._numbers(y)
        valid = ops.isfinite(numbers)
        if not self.flags:
            return valid
        binary = ops.logical_or(flags == 0, flags == 1)
        return ops.concatenate([valid, binary], axis=-1)

    def standardized(self, y: Tensor) -> Tensor:
        numbers, flags = self._numbers(y)
        numbers = self.component.standardized(numbers)
        return ops.concatenate([numbers, flags], axis=-1) if self.flags else numbers

    @property
    def sizes(self) -> dict[str, int]:
        sizes = {"weight": self.components, "component": self.components * self.component.count}
        return sizes | {"flag": self.flags} if self.flags else sizes

    def parameters(self, raw: Tensor) -> Tensor:
        raw = self.split(full_precision(raw))
        of_each = self.component.parameters(self._each(raw["component"]))
        parts = [
            _softmax(raw["weight"]),
            ops.reshape(of_each, ops.shape(raw["component"])),
        ]
        if self.flags:
            parts.append(ops.sigmoid(raw["flag"]))
        return ops.concatenate(parts, axis=-1)

    def log_prob(self, parameters: Tensor, y: Tensor) -> Tensor:
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        numbers, flags = self._numbers(y)
        log_w = _log(p["weight"])
        of_each = self.component.log_prob(self._each(p["component"]), ops.expand_dims(numbers, -2))
        log_p = ops.logsumexp(log_w + of_each, axis=-1)
        if self.flags:
            # A probability that is 1 in float32 may be as far below it as rounding allows.
            q = ops.where(flags > 0.5, p["flag"], ops.maximum(1 - p["flag"], HALF_A_DIGIT))
            valid = ops.all(ops.logical_or(flags == 0, flags == 1), axis=-1)
            log_p = log_p + ops.sum(ops.log(ops.maximum(q, TINY)), axis=-1)
            log_p = ops.where(valid, log_p, np.nan)
        return log_p

    def expectation(self, parameters: Tensor) -> Tensor:
        p = self.split(full_precision(parameters))
        means = self.component.expectation(self._each(p["component"]))
        mean = ops.sum(ops.expand_dims(p["weight"], -1) * means, axis=-2)
        return ops.concatenate([mean, p["flag"]], axis=-1) if self.flags else mean

    def cdf(self, parameters: Tensor, y: Tensor) -> Tensor:
        """Of the numbers, and of the flags."""
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        numbers, flags = self._numbers(y)
        value = self._cdf(p, numbers)
        if not self.flags:
            return value
        of_flags = ops.where(flags >= 1, 1, ops.where(flags >= 0, 1 - p["flag"], 0))
        return ops.concatenate([value, of_flags], axis=-1)

    def below(self, parameters: Tensor, y: Tensor, level: float) -> Tensor:
        below = super().below(parameters, y, level)
        if not self.flags:
            return below
        parameters, y = self._matching(parameters, y)
        q, flags = self.split(parameters)["flag"], self._numbers(y)[1]
        part = ops.where(flags > 0.5, level - (1 - q), level)
        part = ops.clip(part / ops.maximum(ops.where(flags > 0.5, q, 1 - q), TINY), 0, 1)
        return ops.concatenate([below[..., : -self.flags], part], axis=-1)

    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        p = probability(p)
        parts = self.split(full_precision(parameters))
        of_each = self.component.quantile(self._each(parts["component"]), p)
        stopped = {name: ops.stop_gradient(x) for name, x in parts.items()}
        scales = self.component.split(self._each(stopped["component"]))["std"]
        value = bisected(
            lambda y: self._cdf(stopped, y) >= p,
            ops.min(of_each, axis=-2),  # it is between them
            ops.max(of_each, axis=-2),
            PRECISION * ops.min(scales, axis=-2),
        )
        if not self.flags:
            return value
        of_flags = ops.cast(1 - parts["flag"] < p, value.dtype)
        return ops.concatenate([value, of_flags], axis=-1)

    def point(self, parameters: Tensor) -> Tensor:
        value = super().point(parameters)
        if not self.flags:
            return value
        q = self.split(full_precision(parameters))["flag"]
        return ops.concatenate([value[..., : -self.flags], q], axis=-1)

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """That of each number alone (Grimit et al. 2006), and Brier's score of each flag."""
        parameters, y = self._matching(parameters, y)
        p = self.split(parameters)
        numbers, flags = self._numbers(y)
        w, each = p["weight"], self.component.split(self._each(p["component"]))
        mean, std = each["mean"], each["std"]  # (..., components, numbers)
        to_target = _distance(ops.expand_dims(numbers, -2) - mean, std)
        score = ops.sum(ops.expand_dims(w, -1) * to_target, axis=-2)
        rows, columns = ops.expand_dims(mean, -2), ops.expand_dims(mean, -3)
        variances = ops.square(std)
        together = ops.sqrt(ops.expand_dims(variances, -2) + ops.expand_dims(variances, -3))
        between = _distance(rows - columns, together)
        pairs = ops.expand_dims(ops.expand_dims(w, -1) * ops.expand_dims(w, -2), -1)
        score = score - ops.sum(pairs * between, axis=(-3, -2)) / 2
        if not self.flags:
            return score
        return ops.concatenate([score, ops.square(p["flag"] - flags)], axis=-1)

    @property
    def noise_count(self) -> int:
        return 1 + self.component.noise_count + self.flags

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        p = self.split(full_precision(parameters))
        end = 1 + self.component.noise_count
        point, of_component, of_flags = noise[..., :1], noise[..., 1:end], noise[..., end:]
        cumulative = ops.cumsum(p["weight"], axis=-1)
        chosen = ops.sum(ops.cast(cumulative <= point * cumulative[..., -1:], "int32"), axis=-1)
        chosen = ops.minimum(chosen, self.components - 1)
        is_chosen = ops.expand_dims(chosen, -1) == ops.arange(self.components, dtype="int32")
        of_one = ops.where(ops.expand_dims(is_chosen, -1), self._each(p["component"]), 0)
        y = self.component.draw(ops.sum(of_one, axis=-2), of_component)
        if not self.flags:
            return y
        return ops.concatenate([y, ops.cast(of_flags < p["flag"], y.dtype)], axis=-1)

    def sharpened(self, parameters: Tensor, bias: float) -> Tensor:
        """Scales times exp(-bias), and weights to the power of 1 + bias, as in Graves (2013)."""
        p = self.split(full_precision(parameters))
        log_w = _log(p["weight"])
        of_each = self.component.sharpened(self._each(p["component"]), bias)
        parts = {
            **p,
            "weight": _softmax(log_w * (1 + bias)),
            "component": ops.reshape(of_each, ops.shape(p["component"])),
        }
        return ops.concatenate(list(parts.values()), axis=-1)

    def get_config(self) -> dict[str, Any]:
        component = keras.saving.serialize_keras_object(self.component)
        return {**super().get_config(), "component": component}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Mixture":
        component = keras.saving.deserialize_keras_object(config["component"])
        return cls(**{**config, "component": component})

    def _numbers(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers and the flags of targets."""
        return y[..., : self.component.size], y[..., self.component.size :]

    def _each(self, values: Tensor) -> Tensor:
        """The parameters of the components, `(..., components, count)`."""
        shape = tuple(ops.shape(values))[:-1]
        return ops.reshape(values, (*shape, self.components, self.component.count))

    def _cdf(self, p: dict[str, Tensor], numbers: Tensor) -> Tensor:
        of_each = self.component.cdf(self._each(p["component"]), ops.expand_dims(numbers, -2))
        return ops.sum(ops.expand_dims(p["weight"], -1) * of_each, axis=-2)


def _softmax(logits: Tensor) -> Tensor:
    """Keras's softmax warns about a single component."""
    return ops.ones_like(logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


def _log(weights: Tensor) -> Tensor:
    present = weights >= TINY
    return ops.where(present, ops.log(ops.where(present, weights, 1)), NEVER)


def _distance(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| of a normal X."""
    z = mean / std
    return 2 * std * normal_density(z) + mean * (2 * normal_cdf(z) - 1)
