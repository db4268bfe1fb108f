"""The base class of cells whose states follow a linear recurrence."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct

Tensor = Any


class LinearCell(Cell):
    """The base class of cells whose transition depends on the input alone.

        a_t = x_t W + b
        decay_t, update_t = transition(a_t)
        s_t = decay_t * s_{t-1} + update_t
        y_t = read(s_t, a_t)

    There is no recurrent kernel, and nothing but the recurrence itself depends on the previous
    step: `transition` and `read` are applied to all steps at once, and the recurrence and its
    gradient are each a loop with one multiplication and one addition, or an associative scan on a
    GPU or TPU. A subclass declares `gates`, `state_names` and `transition`, and overrides `read` if
    the output is not the first state. Both functions operate on the last axis, for tensors with any
    number of axes before it.

    With `complex_states = True` there are two states, the real and the imaginary part, as are the
    decays and the updates that `transition` returns. With `window = n`, a step also reads the last
    n valid inputs: a_t = x_t W + [x_{t-1}, ..., x_{t-n}] V + b. They are the last state,
    `(batch, n, features)`, and V is `window_kernel`, `(n * features, gates * units)`.

    Call arguments:
        inputs: `(batch, features)`.
        states: list of the previous states, each `(batch, units)`, or of the shapes in
            `state_shapes`; or a single tensor if there is only one.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`; the states have the same structure as the input.

    Raises:
        ValueError: an argument is out of its range, or a state is missing.

    Masking: in a layer, as for every cell: at a masked step the states are carried over.

    Example:

        An exponential moving average whose rate depends on the input.

        >>> import numpy as np, kerasrnn
        >>> from keras import ops
        >>> class AverageCell(kerasrnn.LinearCell):
        ...     gates = ("rate", "value")
        ...
        ...     def transition(self, a, weights):
        ...         rate, value = ops.split(a, 2, axis=-1)
        ...         rate = ops.sigmoid(rate)
        ...         return 1 - rate, rate * value
        >>> y = kerasrnn.RNN(AverageCell(4), return_sequences=True)(np.ones((2, 7, 3), "float32"))
        >>> tuple(y.shape)
        (2, 7, 4)
    """

    own_arguments: ClassVar = {
        "activation": REMOVED,
        "recurrent_initializer": REMOVED,
        "recurrent_regularizer": REMOVED,
        "recurrent_constraint": REMOVED,
        "recurrent_dropout": REMOVED,
        "weight_drop": REMOVED,
        "recurrent_parametrization": REMOVED,
    }
    is_linear = True
    recurrent_weights = ()
    single_read = True

    complex_states: bool = False
    """Whether the two states are the real and the imaginary part of one."""

    window: int = 0
    """How many earlier inputs a step reads."""

    def transition(self, a: Tensor, weights: Weights) -> tuple[Any, Any]:
        """Compute the coefficients of the recurrence.

        Args:
            a: input part, `(..., batch, gates * units)`, bias included: of one step, or with time
                as its first axis.
            weights: the weights named in `step_weights`, by name; the noise in `weights.noise`, by
                name; and `weights.training`.

        Returns:
            `(decay, update)`: the decay, which broadcasts to the update, and the update,
            `(..., batch, units)`; two lists if there are several states. A decay that is the same
            at every step has the shape of the state without the batch, or one that broadcasts to
            it.
        """
        # Abstract: a cell that defines `step` is not linear.
        raise NotImplementedError(f"{type(self).__name__} must define `transition`.")

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        """Compute the outputs from the new states: by default, the first of them.

        Args:
            states: the new states, `(..., batch, units)`.
            a: as in `transition`.
            weights: as in `transition`.

        Returns:
            The outputs, `(..., batch, *output_shape)`.
        """
        return states[0]

    @property
    def without_zoneout(self) -> tuple[str, ...]:
        return self.state_names[-1:] if self.window else ()

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (self.gates,) if self.window else ()

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...] | None:
        return None

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features, len(self.gates) * self.units)

    @property
    def state_shapes(self) -> list[Any]:
        shapes: list[Any] = [(self.units,) for _ in self.state_names]
        if self.window:
            shapes[-1] = (self.window, self.kernel.shape[0] if self.built else None)
        return shapes

    @property
    def input_part_size(self) -> int:
        return len(self.gates) * self.units + (self.kernel.shape[0] if self.window else 0)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        if self.window:
            features, columns = self.kernel.shape
            self.window_kernel = self.add_weight(
                shape=(self.window * features, columns),
                name="window_kernel",
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return (RecurrentProduct(weights["window_kernel"], None),) if self.window else ()

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        a = super().input_part(x, weights)
        if not self.window:
            return a
        masks = weights.noise.get("inputs")
        return ops.concatenate([a, x if masks is None else x * masks[0]], axis=-1)

    def split_window(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The input part of all gates, and the inputs that the window takes up."""
        width = len(self.gates) * self.units
        return a[..., :width], a[..., width:]

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        states, window = list(states), []
        if self.window:
            a, x = self.split_window(a)
            before = states.pop()
            a = a + products[0](ops.reshape(before, (-1, self.window * x.shape[-1])))
            window = [ops.concatenate([ops.expand_dims(x, 1), before[:, :-1]], axis=1)]
        decays, updates = self.transition(a, weights)
        if not isinstance(updates, (list, tuple)):
            decays, updates = [decays], [updates]
        if self.complex_states:
            (d_r, d_i), (s_r, s_i) = decays, states
            decayed = [d_r * s_r - d_i * s_i, d_r * s_i + d_i * s_r]
        else:
            decayed = [d * s for d, s in zip(decays, states, strict=True)]
        new = [d + u for d, u in zip(decayed, updates, strict=True)]
        return self.read(new, a, weights), [*new, *window]
