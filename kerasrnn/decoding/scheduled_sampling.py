"""Scheduled sampling: in training, the decoder increasingly reads its own predictions."""

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
    """A schedule of how often a decoder reads the true symbols in training, and not its own.

    Bengio, Vinyals, Jaitly & Shazeer (2015), "Scheduled sampling for sequence prediction with
    recurrent neural networks", section 2.4. In the i-th training step, each symbol is independently
    the true one with the probability epsilon_i, and otherwise drawn from the model:

        "linear"            epsilon_i = max(floor, 1 - slope i)
        "exponential"       epsilon_i = max(floor, k^i),                  0 < k < 1
        "inverse_sigmoid"   epsilon_i = max(floor, k / (k + exp(i / k))),     k >= 1

    The symbol drawn at a step depends on the previous symbols, including drawn ones. Here all steps
    are run at once in the compiled time loop: first on the true symbols, then `passes` - 1 times on
    the mixture of true and drawn symbols (Duckworth et al. 2019, "Parallel scheduled sampling",
    algorithm 1), and finally on the mixture, with the gradient; no gradient flows through the
    drawing. After n passes the first n symbols are drawn as in sequential sampling, so that as many
    passes as steps give the procedure of Bengio et al.

    Args:
        kind: "linear", "exponential" or "inverse_sigmoid".
        slope: positive; only with "linear".
        k: only with the other two.
        floor: the minimum of epsilon, in [0, 1].
        passes: positive integer.

    Raises:
        ValueError: an argument is out of its range, or does not apply to this kind.

    Example: the probability of the true symbol after some numbers of steps.

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
        for name, value, required in (("slope", slope, linear), ("k", k, not linear)):
            if not required and value is not None:
                raise ValueError(f"{name}={value!r}: expected None with kind={kind!r}.")
            if required:
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
            # k / (k + exp(i / k)), without the exponential, which would overflow.
            epsilon = ops.sigmoid(math.log(self.k) - i / self.k)
        return ops.maximum(epsilon, self.floor)

    def mixed(self, previous: Tensor, logits: Any, step: Any, seed: Any) -> Tensor:
        """Mix the model's own symbols into `previous`, ids `(batch, time)`.

        Args:
            previous: y_0 ... y_{T-1}. The first symbol and padding are unchanged.
            logits: maps such ids to the logits of y_1 ... y_T.
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
