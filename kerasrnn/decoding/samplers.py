"""Samplers, which choose the next symbol from the logits of one step.

A sampler has no random state: it receives random numbers that are drawn before the loop. So the
loop is one graph on every backend, and a test can pass any numbers to a sampler.
"""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.processors import possible
from kerasrnn.distributions.forecast import Distribution, Forecast
from kerasrnn.validation import NonNegativeNumber, PositiveInteger, PositiveNumber

Tensor = Any


class Strategy:
    """The base class of samplers and beams, which a generator stores and saves."""

    kind: str
    """The kind of output that it chooses: "classes", "flags" or "values"."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Strategy":
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Sampler(Strategy):
    """The base class of all samplers.

    Example: always the second best.

        >>> import keras, kerasrnn
        >>> class Second(kerasrnn.decoding.Sampler):
        ...     kind = "classes"
        ...     def __call__(self, logits, noise=None):
        ...         return keras.ops.top_k(logits, 2)[1][:, 1]
    """

    def noise_shape(self, size: int) -> tuple[int, ...] | None:
        """The shape of the uniform numbers that a row needs at one step; None: no numbers."""
        return None

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        """Choose the next symbols.

        Args:
            logits: `(batch, size)`, float32.
            noise: uniform in [0, 1), `(batch, *noise_shape)`.

        Returns:
            ids `(batch,)` for "classes", otherwise `(batch, size)`.
        """
        # Abstract: every sampler defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `__call__`.")

    def of_forecast(self, forecast: Forecast) -> "Sampler":
        """This sampler for a decoder that predicts the parameters of a forecast, in "values".

        By default, it receives the point forecasts.
        """
        return _OfPoints(self, forecast)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Greedy(Sampler):
    """Chooses the most probable class.

    y_t = argmax_k logits_k

    >>> import numpy as np, kerasrnn
    >>> int(kerasrnn.decoding.Greedy()(np.array([[0.1, 2.0, 0.3]], "float32"))[0])
    1
    """

    kind = "classes"

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        # Not `ops.argmax`, which uses the bits of floats, as ONNX cannot.
        return ops.cast(ops.top_k(logits, 1)[1][..., 0], "int32")


@keras.saving.register_keras_serializable(package="kerasrnn")
class Sample(Sampler):
    """Draws a class from the distribution, or from its most probable part.

        p_k = exp(logits_k / temperature) / sum_j exp(logits_j / temperature)
        top_k: the k most probable classes (Fan et al. 2018, "Hierarchical neural story generation")
        top_p: the smallest set V of the most probable classes with sum_{k in V} p_k >= top_p
            (Holtzman et al. 2020, "The curious case of neural text degeneration", equation 2)
        y_t ~ p_k / sum_{j in V} p_j of the remaining classes (equation 3)

    With both, `top_p` applies to the classes that `top_k` leaves. The class is drawn by inverting
    the cumulative distribution, in the order of decreasing probabilities, with one uniform number
    per row.

    Args:
        temperature: positive; values below 1 sharpen the distribution.
        top_k: positive integer, or None for all classes.
        top_p: in (0, 1], or None for all classes.

    Raises:
        ValueError: an argument is out of its range.

    Example: if only one class remains, the choice is certain.

        >>> import numpy as np, kerasrnn
        >>> sampler = kerasrnn.decoding.Sample(temperature=0.7, top_p=0.5)
        >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
        >>> int(sampler(logits, np.array([0.99], "float32"))[0])
        1
    """

    kind = "classes"

    @validation.checked
    def __init__(
        self,
        temperature: PositiveNumber = 1.0,
        top_k: PositiveInteger | None = None,
        top_p: float | None = None,
    ) -> None:
        if top_p is not None:
            top_p = validation.number("top_p", top_p, above=0, maximum=1)
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p

    def noise_shape(self, size: int) -> tuple[int, ...]:
        return ()

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        size = ops.shape(logits)[-1]
        k = size
        if self.top_k is not None:
            k = (min if isinstance(size, int) else ops.minimum)(self.top_k, size)
        head, ids = ops.top_k(logits, k)  # in descending order
        # Not divided by their sum, which cancels. The largest logit is 0, at any temperature.
        p = ops.exp((head - head[:, :1]) / self.temperature)
        p = ops.where(possible(head), p, 0)  # even at a very high temperature
        if self.top_p is not None:
            before = ops.cumsum(p, axis=-1) - p
            share = self.top_p * ops.sum(p, axis=-1, keepdims=True)
            p = ops.where(before < share, p, 0)  # (2)
        cumulative = ops.cumsum(p, axis=-1)
        point = ops.expand_dims(noise, -1) * cumulative[:, -1:]  # (3)
        rank = ops.sum(ops.cast(cumulative <= point, "int32"), axis=-1)
        # Rounding may move the point to the very end, after all classes with a probability.
        last = ops.sum(ops.cast(p > 0, "int32"), axis=-1) - 1
        rank = ops.minimum(rank, last)
        chosen = ops.take_along_axis(ids, ops.expand_dims(rank, -1), axis=-1)
        return ops.cast(ops.squeeze(chosen, -1), "int32")

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Threshold(Sampler):
    """Sets every flag whose probability is at least a threshold.

        y_tk = 1 if sigmoid(logits_k) >= threshold, else 0

    Args:
        threshold: in (0, 1).

    Raises:
        ValueError: `threshold` is not in (0, 1).

    Example:

        >>> import numpy as np, kerasrnn
        >>> np.asarray(kerasrnn.decoding.Threshold()(np.array([[-1.0, 2.0]], "float32"))).tolist()
        [[0.0, 1.0]]
    """

    kind = "flags"

    @validation.checked
    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = validation.number("threshold", threshold, above=0, below=1)

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        return ops.cast(ops.sigmoid(logits) >= self.threshold, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Bernoulli(Sampler):
    """Draws every flag independently.

        y_tk = 1 with the probability sigmoid(logits_k / temperature), else 0

    Args:
        temperature: positive; values below 1 sharpen the distribution.

    Raises:
        ValueError: `temperature` is not positive.

    Example:

        >>> import numpy as np, kerasrnn
        >>> logits, noise = np.zeros((1, 2), "float32"), np.array([[0.4, 0.6]], "float32")
        >>> np.asarray(kerasrnn.decoding.Bernoulli()(logits, noise)).tolist()
        [[1.0, 0.0]]
    """

    kind = "flags"

    @validation.checked
    def __init__(self, temperature: PositiveNumber = 1.0) -> None:
        self.temperature = temperature

    def noise_shape(self, size: int) -> tuple[int, ...]:
        return (size,)

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        return ops.cast(noise < ops.sigmoid(logits / self.temperature), logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Identity(Sampler):
    """Returns the predicted values: a forecast continues from its own output.

    Of a distribution, it returns the point forecast, such as the mean.

    >>> import numpy as np, kerasrnn
    >>> np.asarray(kerasrnn.decoding.Identity()(np.array([[1.5]], "float32"))).tolist()
    [[1.5]]
    """

    kind = "values"

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        return logits


@keras.saving.register_keras_serializable(package="kerasrnn")
class Draw(Sampler):
    """Draws from the predicted distribution: a sequence continues from its own samples.

    Only for a decoder with a `forecast` that is a distribution of `kerasrnn.distributions`.

    Args:
        bias: 0 draws from the distribution itself. A positive one makes samples less random: scales
            are multiplied by exp(-bias), and the weights of a mixture's components raised to the
            power of 1 + bias (Graves 2013, "Generating sequences with recurrent neural networks",
            section 5.4).

    Raises:
        ValueError: `bias` is negative.

    Example:

        >>> import numpy as np, kerasrnn
        >>> normal = kerasrnn.distributions.Normal(mean=5.0)
        >>> draw = kerasrnn.decoding.Draw().of_forecast(normal)
        >>> noise = np.array([[1 - np.exp(-0.5), 0.0]], "float32")     # one standard deviation
        >>> y = draw(np.array([[0.0, 0.0]], "float32"), noise)
        >>> round(float(y[0, 0]), 2)                                   # 5 + softplus(0)
        5.69
    """

    kind = "values"

    @validation.checked
    def __init__(self, bias: NonNegativeNumber = 0.0) -> None:
        self.bias = bias

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        raise ValueError(
            f"sampler={self!r}: the decoder predicts no distribution to draw from; expected "
            "Identity(), or a decoder with a distribution as its forecast."
        )

    def of_forecast(self, forecast: Forecast) -> Sampler:
        if not isinstance(forecast, Distribution):
            self(None)  # which raises the error
        return _OfSamples(self, forecast)

    def get_config(self) -> dict[str, Any]:
        return {"bias": self.bias}


class _OfPoints(Sampler):
    """A sampler of values that receives the point forecasts."""

    kind = "values"

    def __init__(self, sampler: Sampler, forecast: Forecast) -> None:
        self.sampler, self.forecast = sampler, forecast

    def noise_shape(self, size: int) -> tuple[int, ...] | None:
        return self.sampler.noise_shape(size)

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.sampler(self.forecast.point(self.forecast.parameters(logits)), noise)


class _OfSamples(Sampler):
    """Draws from a distribution, given the numbers that its parameters are computed from."""

    kind = "values"

    def __init__(self, sampler: Draw, forecast: Distribution) -> None:
        self.sampler, self.forecast = sampler, forecast

    def noise_shape(self, size: int) -> tuple[int, ...]:
        return (self.forecast.noise_count,)

    def __call__(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        parameters = self.forecast.parameters(logits)
        if self.sampler.bias:
            parameters = self.forecast.sharpened(parameters, self.sampler.bias)
        return self.forecast.draw(parameters, noise)
