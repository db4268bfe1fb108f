"""Feedback of the output into the next step: Jordan (1986)."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.wrapping import WrappingCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class FeedbackCell(WrappingCell):
    """A cell with output feedback: its output is added to the next step's input.

    Jordan (1986), "Serial order: a parallel distributed processing approach"; now also called back
    projection (Jaeger 2001). For a cell with the input part a_t and the step
    h_t, s_t = step(a_t, s_{t-1}), with output h_t:

        a_t = x_t W + b + y_{t-1} W_y
        h_t, s_t = step(a_t, s_{t-1})
        y_t = activation(h_t V + c)

    y_0 = 0. With "softmax" the next step receives the probabilities of the classes, not the chosen
    class. Use `kerasrnn.RNN(FeedbackCell(...))` as a layer; it outputs y_t.

    Weights: `feedback_kernel` W_y `(units, width of a_t)`, `output_kernel` V `(width of h_t,
    units)`, `output_bias` c `(units,)`, then the cell's own. States: the cell's, then y.

    Args:
        cell: a new `kerasrnn.Cell`, which keeps its own configuration, such as its dropout and its
            initializers. It may be a wrapper, such as an `AttentionCell`, whose memory the layer
            then takes.
        units: positive integer: the width of y_t.
        activation: activation of y_t; None is linear.
        use_bias: whether to add c.
        kernel_initializer: initializer of V, `output_kernel`.
        recurrent_initializer: initializer of W_y, `feedback_kernel`.
        bias_initializer: initializer of c, `output_bias`.
        kernel_regularizer: regularizer of V.
        recurrent_regularizer: regularizer of W_y.
        bias_regularizer: regularizer of c.
        kernel_constraint: constraint on V.
        recurrent_constraint: constraint on W_y.
        bias_constraint: constraint on c.
        **kwargs: keyword arguments of Keras's layers. Other arguments of `Cell`, such as the
            dropout, belong to `cell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: the cell's states and y_{t-1}, in one list.
        training: whether the cell's dropout is applied.
        prepared: the memory, as returned by `prepare_memory`, if the cell reads one.

    Returns:
        `(y_t, new_states)`.

    Masking: in a layer, as for every cell: at a masked step the states, including y_{t-1}, are
    carried over.

    Raises:
        ValueError: `cell` is not a kerasrnn cell, is built, or overrides `call`; an argument is out
            of its range.

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
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
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
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.state_names = (*cell.state_names, "y")

    def build(
        self, input_shape: Sequence[int | None], memory_shape: Sequence[int | None] | None = None
    ) -> None:
        self.build_cell(input_shape, memory_shape)
        self.feedback_kernel = self.add_weight(
            shape=(self.units, self.input_part_size),
            name="feedback_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.output_kernel = self.add_weight(
            shape=(self.width_of_output(), self.units),
            name="output_kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.output_bias = None
        if self.use_bias:
            self.output_bias = self.add_weight(
                shape=(self.units,),
                name="output_bias",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return (
            RecurrentProduct(weights["feedback_kernel"], None),
            *super().recurrent_products(weights),
            RecurrentProduct(weights["output_kernel"], weights.get("output_bias")),
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Any]]:
        feedback, *of_cell, readout = products
        states, (y,) = self.split_states(states)
        a = self.add_feedback(a, feedback(y))
        h, states = self.cell.step(a, states, weights.of("cell"), tuple(of_cell))
        y = self.activation(readout(h))
        return y, self.join_states(states, [y])
