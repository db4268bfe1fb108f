"""Scheduled sampling: a decoder that reads, in training, more and more of what it says itself."""

import math
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.samplers import Sample
from kerasrnn.validation import Fraction, PositiveInteger, PositiveNumber

Tensor = Any

KINDS = ("linear", "exponential", "inverse_sigmoid")


@keras.saving.register_keras_serializable(package="kerasrnn")
class ScheduledSampling:
    """How often, in training, a decoder reads the true symbol and not its own.

    Bengio, Vinyals, Jaitly & Shazeer (2015), "Scheduled sampling for sequence prediction with
    recurrent neural networks", section 2.4. In the i-th training step each symbol that is read is
    the true one with the probability epsilon_i, each for itself, and else one that the model drew:

        "linear"            epsilon_i = max(floor, 1 - slope i)
        "exponential"       epsilon_i = max(floor, k^i),                  0 < k < 1
        "inverse_sigmoid"   epsilon_i = max(floor, k / (k + exp(i / k))),     k >= 1

    What the model draws at a step depends on what it has read before, drawn symbols included. Here
    all steps are run at once, in the time loop's own compiled way: first on the true symbols, then
    `passes` - 1 times on those that are mixed from it (Duckworth et al. 2019, "Parallel scheduled
    sampling", algorithm 1), and at last on the mixed symbols, with the gradient; none goes through
    the drawing. After n passes the first n symbols are drawn as one after the other, so that as
    many passes as there are steps are the paper's own procedure.

    Args:
        kind: "linear", "exponential" or "inverse_sigmoid".
        slope: of "linear" alone: positive.
        k: of the two others.
        floor: the least epsilon, in [0, 1].
        passes: positive integer.

    Raises:
        ValueError: an argument is out of its range, or of another kind.

    Example: how often the true symbol is read after so many steps.

        >>> import kerasrnn
        >>> schedule = kerasrnn.decoding.ScheduledSampling("inverse_sigmoid", k=1000)
        >>> [round(float(schedule.epsilon(i)), 2) for i in (0, 5000, 10_000)]
        [1.0, 0.87, 0.04]
    """

    @validation.checked
    def __init__(
        self,
        kind: str = "inverse_sigmoid",
        slope: PositiveNumber | None = None,
        k: PositiveNumber | None = None,
        floor: Fraction = 0.0,
        passes: PositiveInteger = 1,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
        linear = kind == "linear"
        for name, value, asked in (("slope", slope, linear), ("k", k, not linear)):
            if not asked and value is not None:
                raise ValueError(f"{name}={value!r}: expected None with kind={kind!r}.")
            if asked:
                validation.positive_number(name, value)
        if kind == "exponential" and not k < 1:
            raise ValueError(f"k={k!r}: expected a number below 1 with kind='exponential'.")
        if kind == "inverse_sigmoid" and k < 1:
            raise ValueError(f"k={k!r}: expected 1 or more with kind='inverse_sigmoid'.")
        self.kind, self.slope, self.k = kind, slope, k
        self.floor, self.passes = floor, passes

    def epsilon(self, step: Any) -> Tensor:
        """The probability of the true symbol in a training step, counted from 0."""
        i = ops.cast(step, "float32")
        if self.kind == "linear":
            epsilon = 1 - self.slope * i
        elif self.kind == "exponential":
            epsilon = ops.exp(i * math.log(self.k))
        else:
            # k / (k + exp(i / k)), without the power that would overflow.
            epsilon = ops.sigmoid(math.log(self.k) - i / self.k)
        return ops.maximum(epsilon, self.floor)

    def mixed(self, previous: Tensor, logits: Any, step: Any, seed: Any) -> Tensor:
        """What is read in place of `previous`, ids `(batch, time)`: some are the model's own.

        Args:
            previous: y_0 ... y_{T-1}. The first, and padding, stay.
            logits: from what is read to the logits of y_1 ... y_T.
            step: the number of the training step.
            seed: a `keras.random.SeedGenerator`.
        """
        shape = ops.shape(previous)
        coins, noise = (keras.random.uniform(shape, seed=seed) for _ in range(2))
        true = coins < self.epsilon(step)
        true = ops.logical_or(true, ops.equal(previous, 0))
        true = ops.logical_or(true, ops.equal(ops.arange(shape[1]), 0))
        read, draw = previous, Sample()
        for _ in range(self.passes):
            after = ops.cast(logits(read), "float32")
            size = after.shape[-1]
            after = ops.where(ops.arange(size) == 0, -1e30, after)  # padding is never drawn
            drawn = draw(ops.reshape(after, (-1, size)), ops.reshape(noise, (-1,)))
            drawn = ops.reshape(ops.cast(drawn, read.dtype), shape)
            drawn = ops.concatenate([previous[:, :1], drawn[:, :-1]], axis=1)
            read = ops.stop_gradient(ops.where(true, previous, drawn))
        return read

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "slope": self.slope,
            "k": self.k,
            "floor": self.floor,
            "passes": self.passes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ScheduledSampling":
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"ScheduledSampling({arguments})"
