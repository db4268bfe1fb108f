"""The state space layer of Mamba-2: Dao & Gu (2024)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.chunked_cell import ChunkedCell
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.matrix_memory import MatrixMemory, segment_sums
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.windows import delays, last_valid

Tensor = Any

RATES = (1.0, 16.0)
"""The smallest and the largest initial rate exp(A_log)."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Mamba2Cell(ChunkedCell):
    """One step of the state space layer of Mamba-2.

    Dao & Gu (2024), "Transformers are SSMs: generalized models and efficient algorithms through
    structured state space duality", with the parametrization of the authors' code. In each of
    `heads`, of width d = units / heads:

        (z_t, p_t, p_dt) = u_t W                         u_t: the input
        (x_t, B_t, C_t) = silu(conv(p_t, ..., p_{t-k+1}) + b)
        dt_t = softplus(p_dt + dt_bias)
        a_t = exp(-dt_t exp(A_log))
        h_t = a_t h_{t-1} + dt_t B_t^T x_t
        y_t = silu(z_t) * (C_t h_t + D x_t)

    A step stores the value x under the key B, in a matrix, and reads what is stored under the query
    C. With a short dt a step is hardly stored, and what was stored before hardly decays; with a
    long one it replaces the memory. dt, the decay a, its rate exp(A_log) and the weight D of the
    skip connection are one number per head. The heads of each of the `groups` share B and C. `conv`
    is a depthwise convolution: each column of p is convolved by itself, over the last
    `kernel_size` = k steps. At a masked step it skips the input: it reads the last valid ones.

    A chunk of steps is computed at once, as attention within the chunk plus what was stored before
    it: see listing 1 of the paper. Since the decay is one number per head, each weight of a chunk
    is the exponential of a sum of logarithms of decays, all at most 0: none overflows, for chunks
    of any size and steps of any length. In gated linear attention (Yang et al. 2024) each element
    of the key has a decay of its own, and matrix products within a chunk need keys divided by
    cumulative products of decays, which overflow unless the chunk is divided again. A_log,
    dt_bias, the sums and the states stay in float32 under a policy of half precision.

    The cell is the whole block of the authors, except for the RMS normalization of y and a
    projection without a bias, which follow it there: `keras.layers.RMSNormalization` and `Dense`.
    The authors use heads of 64 or 128 units, a `state_dim` of 64 or 128, and twice as many units as
    features; a layer with a single head starts with a single memory span. They exclude A_log,
    dt_bias and D from weight decay.

    `silu` is `activation`, except in the gate of z. Weights: `kernel` W `(features, 2 * units +
    2 * groups * state_dim + heads)`, with the columns in the order z, x, B, C, dt; `A_log`,
    `dt_bias` and `D`, `(heads,)`; `depthwise_kernel`, unless `kernel_size` is 1, and `bias` b, of
    the convolution: `(kernel_size, units + 2 * groups * state_dim)`, in which the last row is
    applied to the current step, and `(units + 2 * groups * state_dim,)`. exp(A_log) starts
    uniformly in [1, 16], softplus(dt_bias) log-uniformly in [`min_step`, `max_step`], and D at 1.
    States: h `(heads, state_dim, d)`, a row for each element of the key, and the window: p at the
    last `kernel_size - 1` steps, latest first.

    Args:
        heads: positive integer that divides `units`.
        groups: positive integer that divides `heads`: the number of different B and C.
        state_dim: positive integer: the width of B and C in each group.
        kernel_size: positive integer: how many steps the convolution reads, the current one
            included; 1: there is none.
        min_step: positive number: the smallest initial dt, before the input changes it.
        max_step: positive number: the largest initial dt.
    """

    own_arguments: ClassVar = {
        "activation": "silu",
        "heads": 1,
        "groups": 1,
        "state_dim": 64,
        "kernel_size": 4,
        "min_step": 0.001,
        "max_step": 0.1,
    }
    gates = ("z", "x", "B", "C", "dt")
    gate_names = ()
    state_names = ("h", "window")
    rates = ("A_log", "dt_bias")
    wording = Wording(
        states=("heads, state_dim, d", "kernel_size - 1, units + 2 * groups * state_dim"),
        state_shapes=((1, 64, 4), (3, 132)),
    )
    is_chunked = True

    def __post_init__(self) -> None:
        if self.units % self.heads:
            raise validation.ArgumentError("heads", self.heads, f"a divisor of units={self.units}")
        for name in ("groups", "state_dim", "kernel_size"):
            validation.positive_integer(name, getattr(self, name))
        if self.heads % self.groups:
            raise validation.ArgumentError(
                "groups", self.groups, f"a divisor of heads={self.heads}"
            )
        if not self.min_step > 0:
            raise validation.ArgumentError("min_step", self.min_step, "a positive number")
        if not self.max_step > self.min_step:
            raise validation.ArgumentError("max_step", self.max_step, "a number above min_step")
        names = [*self.rates, "D"]
        names += ["bias"] if self.use_bias else []
        if self.kernel_size > 1:
            names.append("depthwise_kernel")
        else:
            self.state_names = ("h",)
        self.step_weights = tuple(names)

    @property
    def width(self) -> int:
        """The width of a head."""
        return self.units // self.heads

    @property
    def channels(self) -> int:
        """The number of columns that are convolved: those of x, B and C."""
        return self.units + 2 * self.groups * self.state_dim

    @property
    def without_zoneout(self) -> tuple[str, ...]:
        return self.state_names[1:]

    @property
    def state_shapes(self) -> list[Any]:
        shapes = [(self.heads, self.state_dim, self.width)]
        return [*shapes, (self.kernel_size - 1, self.channels)][: len(self.state_names)]

    @property
    def input_part_size(self) -> int:
        return self.units + self.channels + self.heads

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.channels,)

    @property
    def dropout_blocks(self) -> int:
        return 1

    def _biases(self, weights: Mapping[str, Any]) -> tuple[None, None]:
        return None, None  # the bias is added after the convolution

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)

        def uniform(low: float, high: float, transformed: Callable[[Tensor], Tensor]) -> Any:
            def initializer(shape: Any, dtype: Any = None) -> Tensor:
                return transformed(
                    keras.random.uniform(shape, low, high, dtype=dtype, seed=self.seed_generator)
                )

            return initializer

        def inverse_softplus(log_dt: Tensor) -> Tensor:
            dt = ops.exp(log_dt)
            return dt + ops.log(-ops.expm1(-dt))

        steps = math.log(self.min_step), math.log(self.max_step)
        self.A_log = self.add_rate("A_log", uniform(*RATES, ops.log), self.heads)
        self.dt_bias = self.add_rate("dt_bias", uniform(*steps, inverse_softplus), self.heads)
        self.D = self.add_weight(shape=(self.heads,), name="D", initializer="ones")
        if self.kernel_size > 1:
            bound = 1 / math.sqrt(self.kernel_size)
            self.depthwise_kernel = self.add_weight(
                shape=(self.kernel_size, self.channels),
                name="depthwise_kernel",
                initializer=uniform(-bound, bound, lambda kernel: kernel),
            )

    def _split(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, what is convolved, and the part of the input in dt."""
        z, p, p_dt = ops.split(a, [self.units, self.units + self.channels], axis=-1)
        return z, p, p_dt

    def _convolved(
        self, p: Tensor, earlier: list[Tensor], weights: Weights
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x `(..., heads, d)`, B and C `(..., groups, state_dim)`; `earlier`: latest first."""
        if earlier:
            kernel = weights["depthwise_kernel"]
            steps = [*reversed(earlier), p]
            p = sum(kernel[n] * step for n, step in enumerate(steps))
        if self.use_bias:
            p = p + weights["bias"]
        before, of_groups = ops.shape(p)[:-1], (self.groups, self.state_dim)
        ends = [self.units, self.units + self.groups * self.state_dim]
        shapes = ((self.heads, self.width), of_groups, of_groups)
        x, b, c = (
            ops.reshape(self.activation(part), (*before, *shape))
            for part, shape in zip(ops.split(p, ends, axis=-1), shapes, strict=True)
        )
        return x, b, c

    def _output(self, read: Tensor, x: Tensor, z: Tensor, weights: Weights) -> Tensor:
        y = read + weights["D"][:, None] * x
        return ops.silu(z) * ops.reshape(y, ops.shape(z))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        h, *window = states
        z, p, p_dt = self._split(a)
        earlier = []
        if window:
            (before,) = window
            earlier = [before[:, n] for n in range(self.kernel_size - 1)]
            window = [ops.concatenate([ops.expand_dims(p, 1), before[:, :-1]], axis=1)]
        x, b, c = self._convolved(p, earlier, weights)
        dt = ops.softplus(p_dt + weights["dt_bias"])
        decay = ops.exp(-dt * ops.exp(weights["A_log"]))
        b, c = (ops.repeat(v, self.heads // self.groups, axis=1) for v in (b, c))
        h = decay[..., None, None] * h + b[..., None] * (dt[..., None] * x)[..., None, :]
        read = ops.sum(c[..., None] * h, axis=-2)
        return self._output(read, x, z, weights), [h, *window]

    def chunk(
        self, a: Tensor, states: list[Any], keep: Tensor | None, weights: Weights
    ) -> tuple[Tensor, list[Any]]:
        h, *window = states
        z, p, p_dt = self._split(a)
        earlier = []
        if window:
            delayed = delays(p, window[0], None if keep is None else last_valid(keep))
            earlier = [v[:-1] for v in delayed]
            window = [ops.stack([v[-1] for v in delayed], axis=1)]
        x, b, c = self._convolved(p, earlier, weights)
        dt = ops.softplus(p_dt + weights["dt_bias"])
        if keep is not None:  # a step of length 0 stores nothing, and nothing decays
            dt = ops.where(keep, dt, 0.0)
            x, b = (ops.where(keep[..., None], v, 0.0) for v in (x, b))  # padding may be NaN
        # Axes: batch, group, head of the group, and the steps.
        steps, rows = ops.shape(a)[:2]
        heads = (self.groups, self.heads // self.groups)
        values = ops.reshape(dt[..., None] * x, (steps, rows, *heads, self.width))
        values = ops.transpose(values, (1, 2, 3, 0, 4))
        log_a = ops.reshape(-dt * ops.exp(weights["A_log"]), (steps, rows, *heads))
        log_a = ops.transpose(log_a, (1, 2, 3, 0))
        b, c = (ops.expand_dims(ops.transpose(v, (1, 2, 0, 3)), 2) for v in (b, c))
        memory = MatrixMemory(
            c, b, ops.exp(segment_sums(log_a)), ops.exp(ops.cumsum(log_a, axis=-1))
        )
        before = ops.reshape(h, (rows, *heads, self.state_dim, self.width))
        read = ops.transpose(memory.read(before, values), (3, 0, 1, 2, 4))
        y = self._output(ops.reshape(read, ops.shape(x)), x, z, weights)
        return y, [ops.reshape(memory.write(before, values), ops.shape(h)), *window]


@keras.saving.register_keras_serializable(package="kerasrnn")
class Mamba2(
    Recurrent,
    cell_class=Mamba2Cell,
    after_loop=(
        "chunk_size",
        "heads",
        "groups",
        "state_dim",
        "kernel_size",
        "min_step",
        "max_step",
    ),
):
    """A state space layer of Mamba-2."""
