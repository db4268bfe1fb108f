"""The interface of forecasts and of distributions, and the units of their targets."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.validation import ArgumentError
from kerasrnn.wording import counted

Tensor = Any


class Forecast(abc.ABC):
    """What a model predicts about a target of `size` numbers: the base class of all forecasts.

    A forecast has no weights. Its parameters are in the last axis of the predictions; `split` names
    them. A subclass is a frozen dataclass with `sizes`, `parameters` and `point`; a `Distribution`
    defines more. Register it with `keras.saving.register_keras_serializable`.
    """

    size: int
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    @property
    @abc.abstractmethod
    def sizes(self) -> dict[str, int]:
        """How many numbers each parameter has, in the order of the predictions."""

    @property
    def count(self) -> int:
        """The number of all parameters: the units of the dense layer before them."""
        return sum(self.sizes.values())

    @abc.abstractmethod
    def parameters(self, raw: Tensor) -> Tensor:
        """The parameters, in the units of the targets.

        Args:
            raw: any real numbers, `(..., count)`, usually the outputs of a dense layer.

        Returns:
            `(..., count)`, float32, or float64 for float64 numbers.
        """

    @abc.abstractmethod
    def point(self, parameters: Tensor) -> Tensor:
        """The point forecast, `(..., size)`."""

    def crps(self, parameters: Tensor, y: Tensor) -> Tensor:
        """The continuous ranked probability score of each number, `(..., size)`, in its unit.

        The integral of (F(x) - [x >= y])^2 over x (Gneiting & Raftery 2007, "Strictly proper
        scoring rules, prediction, and estimation", section 4.2). The score of a point forecast is
        its absolute error.

        Args:
            parameters: `(..., count)`.
            y: targets, `(..., size)`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no CRPS.")

    def below(self, parameters: Tensor, y: Tensor, level: float) -> Tensor:
        """Whether each target is below the quantile of a level, `(..., size)`: 1 or 0.

        For counts, the part of the target's probability that is below the level, so that the mean
        over targets that follow the forecast is the level.

        Raises:
            ValueError: the forecast does not have this quantile.
        """
        raise NotImplementedError(f"{type(self).__name__} has no quantiles.")

    def check_level(self, name: str, level: float) -> None:
        """Raise ValueError if the forecast does not have the quantile of a level.

        Args:
            name: name of the argument.
            level: in (0, 1).
        """
        if type(self).below is Forecast.below:
            expected = "a distribution or Quantiles: it needs a quantile of the level"
            raise ArgumentError("forecast", self, f"{expected} {name}")

    def supported(self, y: Tensor) -> Tensor:
        """Which targets `(..., size)` are possible, boolean, `(..., size)`."""
        return ops.isfinite(y)

    support: ClassVar[str] = "finite numbers"
    """What targets are, for errors."""

    def standardized(self, y: Tensor) -> Tensor:
        """(y - mean) / std: targets `(..., size)` as a network reads them."""
        if self.mean is None and self.std is None:
            return y
        return (y - self._of_units("mean", 0.0, y)) / self._of_units("std", 1.0, y)

    def split(self, parameters: Tensor) -> dict[str, Tensor]:
        """The parameters by name, each `(..., number)`.

        Raises:
            ValueError: the last axis has another size.
        """
        self._check_parameters(parameters)
        cuts = np.cumsum(list(self.sizes.values()))[:-1].tolist()
        parts = ops.split(parameters, cuts, axis=-1) if cuts else [parameters]
        return dict(zip(self.sizes, parts, strict=True))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Forecast":
        """A forecast from its `get_config`."""
        return cls(**config)

    def _check_parameters(self, parameters: Tensor) -> None:
        """Raise ValueError unless there are as many as the forecast has."""
        shape = tuple(parameters.shape)
        if not shape or shape[-1] != self.count:
            names = ", ".join(f"{name} ({n})" for name, n in self.sizes.items())
            raise ValueError(
                f"parameters of the shape {shape}: expected (..., {self.count}) for {self!r}: "
                f"{names}."
            )

    def _matching(self, parameters: Any, y: Any) -> tuple[Tensor, Tensor]:
        """The parameters and the targets, in the dtype of the parameters.

        Raises:
            ValueError: their shapes do not match.
        """
        parameters = full_precision(parameters)
        self._check_parameters(parameters)
        y = ops.cast(ops.convert_to_tensor(y), parameters.dtype)
        # Without their last axis, targets would be broadcast to each other's parameters.
        if not y.shape or y.shape[-1] != self.size or not _broadcast(y.shape, parameters.shape):
            raise ValueError(
                f"targets of the shape {tuple(y.shape)}: expected "
                f"{(*parameters.shape[:-1], self.size)}, for parameters of the shape "
                f"{tuple(parameters.shape)}."
            )
        return parameters, y

    def _check_units(self, size: int) -> None:
        """Check the mean and the standard deviation of the targets, and store them as tuples."""
        for name in ("mean", "std"):
            above = 0 if name == "std" else None
            self._store(name, units(name, getattr(self, name), size, above))

    def _store(self, name: str, value: Any) -> None:
        """Set an attribute of a frozen dataclass, in its constructor."""
        object.__setattr__(self, name, value)

    def _of_units(self, name: str, default: float, like: Tensor) -> Tensor:
        """The mean or the standard deviation of the targets, `(size,)` or `()`."""
        value = getattr(self, name)
        dtype = keras.backend.standardize_dtype(like.dtype)
        return ops.convert_to_tensor(default if value is None else value, dtype=dtype)


class Distribution(Forecast):
    """A parametric distribution of a target: the base class of all distributions.

    >>> import numpy as np, kerasrnn
    >>> t = kerasrnn.distributions.StudentT(2)
    >>> t.count, list(t.sizes)
    (6, ['location', 'scale', 'freedom'])
    >>> p = t.parameters(np.zeros((3, 6), "float32"))
    >>> tuple(t.log_prob(p, np.zeros((3, 2))).shape), tuple(t.sample(p, 10, seed=0).shape)
    ((3,), (10, 3, 2))
    """

    discrete: ClassVar[bool] = False
    """Whether targets are integers."""

    @abc.abstractmethod
    def log_prob(self, parameters: Tensor, y: Tensor) -> Tensor:
        """The log-likelihood of targets, `(...)`, in nats: the sum over their numbers.

        Args:
            parameters: `(..., count)`.
            y: `(..., size)`. NaN for what is not `supported`.
        """

    @abc.abstractmethod
    def expectation(self, parameters: Tensor) -> Tensor:
        """The mean, `(..., size)`."""

    @abc.abstractmethod
    def cdf(self, parameters: Tensor, y: Tensor) -> Tensor:
        """P(Y <= y) of each number, `(..., size)`; without a gradient."""

    @abc.abstractmethod
    def quantile(self, parameters: Tensor, p: float) -> Tensor:
        """The smallest y with P(Y <= y) >= p of each number, `(..., size)`.

        Args:
            parameters: `(..., count)`.
            p: in (0, 1).

        Raises:
            ValueError: p is out of its range.
        """

    @property
    @abc.abstractmethod
    def noise_count(self) -> int:
        """How many random numbers `draw` needs for a target."""

    @abc.abstractmethod
    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A draw from the distribution, `(..., size)`.

        Args:
            parameters: `(..., count)`.
            noise: uniform in [0, 1), `(..., noise_count)`.
        """

    def sharpened(self, parameters: Tensor, bias: float) -> Tensor:
        """The parameters of a less random distribution, for sampling.

        Args:
            parameters: `(..., count)`.
            bias: 0 leaves the distribution as it is. The scale is multiplied by exp(-bias).

        Raises:
            ValueError: the distribution has no scale, and `bias` is not 0.
        """
        if bias:
            raise ArgumentError("bias", bias, f"0 for {type(self).__name__}, which has no scale")
        return parameters

    def point(self, parameters: Tensor) -> Tensor:
        """The mean, or the median with `point_of="median"`, `(..., size)`."""
        if getattr(self, "point_of", "mean") == "median":
            return self.quantile(parameters, 0.5)
        return self.expectation(parameters)

    def below(self, parameters: Tensor, y: Tensor, level: float) -> Tensor:
        level = validation.number("level", level, above=0, below=1)
        if not self.discrete:
            return ops.cast(self.cdf(parameters, y) <= level, parameters.dtype)
        upper, lower = self.cdf(parameters, y), self.cdf(parameters, y - 1)
        part = (level - lower) / ops.maximum(upper - lower, 1e-30)
        return ops.clip(part, 0, 1)

    def sample(self, parameters: Tensor, n: int = 1, seed: Any = None) -> Tensor:
        """Independent draws.

        Args:
            parameters: `(..., count)`, such as the result of `predict`.
            n: how many for each target.
            seed: an integer or a `keras.random.SeedGenerator`, or None.

        Returns:
            `(n, ..., size)`. The same seed gives the same numbers on the same backend.

        Raises:
            ValueError: an argument is out of its range.
        """
        n = validation.positive_integer("n", n)
        seed = seed if seed is None else validation.seed("seed", seed)
        parameters = full_precision(validation.tensor("parameters", parameters))
        self._check_parameters(parameters)
        shape = tuple(ops.shape(parameters))[:-1]
        noise = keras.random.uniform((n, *shape, self.noise_count), dtype="float32", seed=seed)
        many = ops.broadcast_to(parameters, (n, *shape, self.count))
        return self.draw(many, ops.cast(noise, parameters.dtype))


def units(name: str, value: Any, size: int, above: float | None = None) -> tuple[float, ...] | None:
    """Return one number for each of `size` numbers of a target, or None."""
    if value is None:
        return None
    numbers = [value] * size if isinstance(value, Real) else value
    if isinstance(numbers, np.ndarray):
        numbers = numbers.tolist()
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        raise ArgumentError(name, value, "a number", f"a list of {size}", "None")
    if len(numbers) != size:
        raise ValueError(
            f"{name} has {counted(len(numbers), 'number')}: expected one, or one for each of the "
            f"{counted(size, 'number')} of a target."
        )
    return tuple(
        validation.number(f"{name}[{n}]" if size > 1 else name, each, above=above)
        for n, each in enumerate(numbers)
    )


def _broadcast(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether all axes but the last can be broadcast to each other."""
    pairs = zip(reversed(shape[:-1]), reversed(other[:-1]), strict=False)
    return all(m is None or n is None or m == n or 1 in (m, n) for m, n in pairs)


def full_precision(x: Tensor) -> Tensor:
    """Cast to float32; float64 is kept."""
    x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return x
    return ops.cast(x, "float32")


def probability(p: Any) -> float:
    return validation.number("p", p, above=0, below=1)
