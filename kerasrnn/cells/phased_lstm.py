"""Phased LSTM: Neil, Pfeiffer & Liu (2016)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.elapsed_time import feature_masks, features, split_time, with_time
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class PhasedLSTMCell(LSTMCell):
    """One step of a long short-term memory with a time gate.

    Neil, Pfeiffer & Liu (2016), "Phased LSTM: accelerating recurrent network training for long or
    event-based sequences", equations 1 to 10, without peepholes.

        time_t = time_{t-1} + dt_t,   phi_t = ((time_t - s) mod tau) / tau
        k_t = 2 * phi_t / r_on   if phi_t < r_on / 2,   2 - 2 * phi_t / r_on   if phi_t < r_on,
              alpha * phi_t      otherwise;   alpha = 0 in inference
        (p_i, p_f, p_c, p_o) = x_t W + b + h_{t-1} U
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        new_c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        c_t = k_t * new_c_t + (1 - k_t) * c_{t-1}
        h_t = k_t * o_t * tanh(new_c_t) + (1 - k_t) * h_{t-1}

    Each unit is open for a fraction r_on of its period tau, from its shift s on, and is closed
    otherwise: it keeps its state. It thus remembers for long, and the gradient passes through few
    updates: for sequences of a thousand steps and more, and for events that are sampled
    irregularly, also by several sensors. With `time_column`, the time dt_t since the previous step
    is the last column of the inputs, in any unit; from absolute time stamps, as in the paper, it is
    `np.diff(stamps, axis=1, prepend=0)`. Otherwise it is 1, and the time counts steps. Masked steps
    take no time.

    alpha is `leak`, a small slope by which a closed unit is trained. tau is drawn log-uniformly
    between `min_period` and `max_period`, in the unit of time: the defaults suit numbers of steps.
    s is drawn uniformly between 0 and tau; r_on starts at `ratio_on`. All three are trained; the
    weights are log(tau) and logit(r_on), so that tau stays positive and r_on between 0 and 1, which
    the paper leaves open. Long times need the precision of float32. Weights: those of `LSTMCell`
    (`kernel` W, `recurrent_kernel` U, `bias` b; the gates' columns in the order i, f, c, o), then
    `log_tau`, `s` and `logit_r_on`, `(units,)`. States: h, c, time, the last one `(batch, 1)`.

    Args:
        leak: alpha, number of at least 0.
        ratio_on: the initial fraction of the period in which a unit is open, in (0, 1).
        min_period: positive number: the shortest initial period.
        max_period: positive number: the longest initial period.
    """

    own_arguments: ClassVar = {
        "leak": 0.001,
        "ratio_on": 0.05,
        "min_period": 1.0,
        "max_period": 1000.0,
        "time_column": False,
    }
    state_names = ("h", "c", "time")
    without_zoneout = ("time",)
    step_weights = ("log_tau", "s", "logit_r_on")

    wording = Wording(states=("units", "units", "1"), state_shapes=((4,), (4,), (1,)))

    def __post_init__(self) -> None:
        self.leak = validation.number("leak", self.leak, minimum=0)
        self.ratio_on = validation.number("ratio_on", self.ratio_on, above=0, below=1)
        self.min_period = validation.positive_number("min_period", self.min_period)
        self.max_period = validation.number("max_period", self.max_period, minimum=self.min_period)

    @property
    def state_shapes(self) -> list[Any]:
        return [(self.units,), (self.units,), (1,)]

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features - self.time_column, self.input_part_size)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        uniform = keras.initializers.RandomUniform
        fraction = uniform(0.0, 1.0)
        self.log_tau = self.add_weight(
            shape=(self.units,),
            name="log_tau",
            initializer=uniform(np.log(self.min_period), np.log(self.max_period)),
        )
        self.s = self.add_weight(
            shape=(self.units,),
            name="s",
            initializer=lambda *args, **kwargs: fraction(*args, **kwargs) * ops.exp(self.log_tau),
        )
        self.logit_r_on = self.add_weight(
            shape=(self.units,),
            name="logit_r_on",
            initializer=keras.initializers.Constant(-np.log(1 / self.ratio_on - 1)),
        )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        masks = feature_masks(weights.noise.get("inputs"), self.time_column)
        bias = weights["bias"] if self.use_bias else None
        a = input_part(features(x, self.time_column), weights["kernel"], bias, masks)
        return with_time(a, x, self.time_column)

    def _openness(self, time: Tensor, weights: Weights) -> Tensor:
        """k of every unit at this time."""
        tau, r_on = ops.exp(weights["log_tau"]), ops.sigmoid(weights["logit_r_on"])
        periods = (time - weights["s"]) / tau
        phi = periods - ops.floor(periods)
        k = 2 * phi / r_on
        alpha = self.leak if weights.training else 0.0
        return ops.where(phi < r_on / 2, k, ops.where(phi < r_on, 2 - k, alpha * phi))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (h, c, time), (product,) = states, products
        a, dt = split_time(a, self.time_column)
        p_i, p_f, p_c, p_o = ops.split(a + product(h), 4, axis=-1)
        i, f, o = (self.recurrent_activation(p) for p in (p_i, p_f, p_o))
        time = time + dt
        k = self._openness(time, weights)
        new_c = f * c + i * self.activation(p_c)
        c = k * new_c + (1 - k) * c
        h = k * o * self.activation(new_c) + (1 - k) * h
        return h, [h, c, time]


@keras.saving.register_keras_serializable(package="kerasrnn")
class PhasedLSTM(Recurrent, cell_class=PhasedLSTMCell):
    """A long short-term memory layer with a time gate."""
