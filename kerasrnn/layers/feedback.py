"""Feedback of the output into the next step: Jordan (1986)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.layers.wrapping import WrappingCell
from kerasrnn.recurrence.products import RecurrentProduct
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class FeedbackCell(WrappingCell):
    """A cell with output feedback: its output is added to the next step's input.

    Jordan (1986), "Serial order: a parallel distributed processing approach"; now also called back
    projection (Jaeger 2001). For a cell with the input part a_t and the step
    s_t = step(a_t, s_{t-1}), with first state h_t:

        a_t = x_t W + b + y_{t-1} W_y
        s_t = step(a_t, s_{t-1})
        y_t = activation(h_t V + c)

    y_0 = 0. With "softmax" the next step receives the probabilities of the classes, not the chosen
    class. Use `kerasrnn.RNN(FeedbackCell(...))` as a layer; it outputs y_t.

    Weights: `feedback_kernel` W_y `(units, width of a_t)`, `output_kernel` V `(cell's units,
    units)`, `output_bias` c `(units,)`, then the cell's own. States: the cell's, then y.

    Args:
        cell: a new `kerasrnn.Cell`, which keeps its own configuration, such as its dropout and its
            initializers.
        units: positive integer: the width of y_t.
        activation: activation of y_t; None is linear.
        use_bias: whether to add c.
        kernel_initializer: initializer of V, `output_kernel`.
        recurrent_initializer: initializer of W_y, `feedback_kernel`.
        bias_initializer: initializer of c, `output_bias`.

    Call arguments:
        inputs: `(batch, features)`.
        states: the cell's states and y_{t-1}, in one list.
        training: whether the cell's dropout is applied.

    Returns:
        `(y_t, new_states)`.

    Masking: in a layer, as for every cell: at a masked step the states, including y_{t-1}, are
    carried over.

    Raises:
        ValueError: `cell` is not a kerasrnn cell, is built, or has feedback itself; an argument is
            out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.FeedbackCell(kerasrnn.GRUCell(8), 3)
        >>> y = kerasrnn.RNN(cell, return_sequences=True)(np.ones((2, 5, 4), "float32"))
        >>> tuple(y.shape), bool(np.allclose(np.sum(y, axis=-1), 1))
        ((2, 5, 3), True)
    """

    @validation.checked
    def __init__(
        self,
        cell: Cell,
        units: PositiveInteger,
        activation: str | Callable | None = "softmax",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            cell,
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            **kwargs,
        )
        self.state_names = (*cell.state_names, "y")
        self.step_weights = cell.step_weights

    @property
    def state_size(self) -> list[int]:
        return [*(self.cell.units for _ in self.cell.state_names), self.units]

    def build(self, input_shape: Sequence[int | None]) -> None:
        self._features(input_shape)
        self.cell.build(input_shape)
        self.feedback_kernel = self.add_weight(
            shape=(self.units, len(self.cell.gates) * self.cell.units),
            name="feedback_kernel",
            initializer=self.recurrent_initializer,
        )
        self.output_kernel = self.add_weight(
            shape=(self.cell.units, self.units),
            name="output_kernel",
            initializer=self.kernel_initializer,
        )
        self.output_bias = None
        if self.use_bias:
            self.output_bias = self.add_weight(
                shape=(self.units,), name="output_bias", initializer=self.bias_initializer
            )
        self.built = True

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """The initial state of the inner cell, and zeros."""
        y = ops.zeros((batch_size, self.units), dtype=self.compute_dtype)
        return [*self.cell.get_initial_state(batch_size), y]

    def recurrent_products(
        self, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[Any, ...]:
        return (
            RecurrentProduct(weights["feedback_kernel"], None),
            *self.cell.recurrent_products(weights, masks),
            RecurrentProduct(weights["output_kernel"], weights.get("output_bias")),
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        feedback, *of_cell, readout = products
        *states, y = states
        a = a + feedback(y)
        _, states = self.cell.step(a, states, weights, tuple(of_cell))
        y = self.activation(readout(states[0]))
        return y, [*states, y]
