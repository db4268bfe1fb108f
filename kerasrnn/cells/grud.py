"""GRU-D, for inputs with missing values: Che, Purushotham, Cho, Sontag & Liu (2018)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.elapsed_time import feature_masks, features, split_time, with_time
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct, input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRUDCell(Cell):
    """One step of a gated recurrent unit with decay, whose inputs may have missing values.

    Che, Purushotham, Cho, Sontag & Liu (2018), "Recurrent neural networks for multivariate time
    series with missing values", equations 2 and 10 to 16. A missing value is NaN in the inputs;
    m_t is 0 for it, and 1 for an observed value.

        delta_t = dt_t + (1 - m_{t-1}) * delta_{t-1}                 time since the last observation
        gamma_x = exp(-max(0, w * delta_t + c)),   gamma_h = exp(-max(0, delta_t D + d))
        x'_t = m_t * x_t + (1 - m_t) * (gamma_x * x_last + (1 - gamma_x) * mean)
        h' = gamma_h * h_{t-1}
        z_t = sigmoid(x'_t W_z + h' U_z + m_t V_z + b_z)
        rho_t = sigmoid(x'_t W_rho + h' U_rho + m_t V_rho + b_rho)
        candidate_t = tanh(x'_t W_h + (rho_t * h') U_h + m_t V_h + b_h)
        h_t = (1 - z_t) * h' + z_t * candidate_t

    The longer a variable has not been observed, the closer its value comes to its mean, and the
    more of the state is forgotten, at rates that are learned. The mask m itself is an input: which
    values are missing is often informative. With `time_column`, the time dt_t since the previous
    step is the last column of the inputs, never NaN, and usually 0 at the first step; otherwise it
    is 1. Rows of NaN beyond the end of a sequence need a mask as other padding does: to the cell
    they are steps at which nothing was observed.

    The reset gate, usually called r, is rho here. `sigmoid` is `recurrent_activation`, `tanh` is
    `activation`. Weights: `kernel` W `(features, 3 * units)`, `recurrent_kernel` U `(units,
    3 * units)`, `bias` b `(3 * units,)`, `mask_kernel` V `(features, 3 * units)`, the gates'
    columns in the order z, rho, h; `decay_kernel` D `(features, units)`, `decay_bias` d `(units,)`;
    `input_decay_kernel` w and `input_decay_bias` c, `(features,)`; `mean` `(features,)`, which is
    not trained. It is 0, the mean of standardized variables, unless `mean_initializer` gives
    another: `keras.initializers.Constant(means)`. Initializers, regularizers and constraints of W
    are also those of V. Dropout of the inputs applies to x'.

    The paper gives no initial decay. The authors' code starts with D, d, w and c of zeros, at the
    kink of the maximum, where there is no gradient; by default D and w are uniform in [0, 0.1 /
    number of variables that a rate depends on), and d and c zeros. States: h; x, the last
    observations minus the mean, so that a state of zeros means that nothing was observed; and
    delta, the time since the last observation at the end of the step.

    Args:
        decay_initializer: initializer of D and w. None: see above.
        mean_initializer: initializer of the mean.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, x, delta]`, h `(batch, units)`, x and delta `(batch, features)`, without the
            column of the time.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range, or a state is missing.
        TypeError: an argument of the constructor is unknown, or `units` is missing.

    Example:

        >>> import numpy as np, kerasrnn
        >>> nan = np.nan  # the second variable is observed at the first step only
        >>> x = np.array([[[0.5, 1.0], [0.3, nan], [0.2, nan]]], "float32")
        >>> layer = kerasrnn.RNN(kerasrnn.GRUDCell(4), return_state=True)
        >>> h, *states = layer(x)
        >>> [tuple(state.shape) for state in states], np.asarray(states[2]).tolist()
        ([(1, 4), (1, 2), (1, 2)], [[0.0, 2.0]])
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "time_column": False,
        "decay_initializer": None,
        "mean_initializer": "zeros",
    }
    gates = ("z", "rho", "h")
    state_names = ("h", "x", "delta")
    step_weights = ("input_decay_kernel", "input_decay_bias", "mean")
    without_zoneout = ("x", "delta")  # what was observed, and when
    features: int | None = None  # known after building

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("z", "rho"), ("h",))

    @property
    def state_shapes(self) -> list[Any]:
        return [(self.units,), (self.features,), (self.features,)]

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features - self.time_column, 3 * self.units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.features, units = self.kernel.shape[0], self.units
        self.add_weight(
            shape=(self.features, 3 * units),
            name="mask_kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        for name, shape in (("decay", (self.features, units)), ("input_decay", (self.features,))):
            initializer = self.decay_initializer
            if initializer is None:
                rows = self.features if name == "decay" else 1
                initializer = keras.initializers.RandomUniform(0.0, 0.1 / max(rows, 1))
            self.add_weight(shape=shape, name=f"{name}_kernel", initializer=initializer)
            self.add_weight(shape=shape[-1:], name=f"{name}_bias", initializer="zeros")
        self.add_weight(
            shape=(self.features,), name="mean", initializer=self.mean_initializer, trainable=False
        )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        v = features(x, self.time_column)
        missing = ops.isnan(v)
        observed = ops.cast(ops.logical_not(missing), v.dtype)
        v = ops.where(missing, ops.zeros_like(v), v)  # no product may have the NaN
        a = input_part(observed, weights["mask_kernel"], weights.get("bias"))
        return with_time(ops.concatenate([a, v, observed], axis=-1), x, self.time_column)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        masks = feature_masks(weights.noise.get("inputs"), self.time_column)
        return (
            RecurrentProduct(weights["decay_kernel"], weights["decay_bias"]),
            RecurrentProduct(weights["kernel"], None, masks),
            *super().recurrent_products(weights),
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        of_delta, of_inputs, of_state, of_reset_state = products
        h, x_last, delta = states
        mean, units = weights["mean"], self.units
        a, dt = split_time(a, self.time_column)
        a, x, m = ops.split(a, [3 * units, 3 * units + x_last.shape[-1]], axis=-1)

        delta = delta + dt
        w, c = weights["input_decay_kernel"], weights["input_decay_bias"]
        gamma_x = ops.exp(-ops.relu(w * delta + c))
        gamma_h = ops.exp(-ops.relu(of_delta(delta)))
        x = m * x + (1 - m) * (gamma_x * x_last + mean)
        h = gamma_h * h

        a_gates, a_h = ops.split(a + of_inputs(x), [2 * units], axis=-1)
        z, rho = ops.split(self.recurrent_activation(a_gates + of_state(h)), 2, axis=-1)
        candidate = self.activation(a_h + of_reset_state(rho * h))
        h = (1 - z) * h + z * candidate
        return h, [h, m * (x - mean) + (1 - m) * x_last, (1 - m) * delta]


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRUD(Recurrent, cell_class=GRUDCell):
    """A layer of gated recurrent units with decay, whose inputs may have missing values."""
