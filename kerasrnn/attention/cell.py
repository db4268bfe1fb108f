"""A cell that attends to a source, in the time loop or step by step."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.base_layer import boolean_mask
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.states import is_shape
from kerasrnn.cells.wrapping import WrappingCell
from kerasrnn.recurrence import loop
from kerasrnn.recurrence.loop import Call, JitCompile, Noise, Options, Results, Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct
from kerasrnn.validation import PositiveInteger

Tensor = Any

QUERIES = ("output", "state")


@keras.saving.register_keras_serializable(package="kerasrnn")
class AttentionCell(WrappingCell):
    """A cell that attends to the positions of a source at every step.

    The inner cell has the input part a_t and the step h_t, s_t = step(a_t, s_{t-1}) with output
    h_t. With `query="output"`, the output is the query (Luong, Pham & Manning 2015, "Effective
    approaches to attention-based neural machine translation", section 3 and equation 5):

        a_t = x_t W + b + o_{t-1} W_f                       W_f: `input_feeding`, section 3.3
        h_t, s_t = step(a_t, s_{t-1})
        c_t = attention(h_t; source)
        o_t = activation([c_t; h_t] W_c)                    W_c: with `units`

    With `query="state"`, the query is the previous state (the first, if there are several), and the
    context enters the step (Bahdanau, Cho & Bengio 2015, "Neural machine translation by jointly
    learning to align and translate", appendix A.2.2):

        c_t = attention(s_{t-1}; source)
        a_t = x_t W + b + c_t W_f
        h_t, s_t = step(a_t, s_{t-1})
        o_t = activation([c_t; h_t] W_c)

    o_0 = 0. Without `units`, o_t = [c_t; h_t], but only c_t is fed back. The output is o_t.

    Use `kerasrnn.RNN(AttentionCell(...))` as a layer; it takes the source as `memory`. The scores'
    projection of the source is computed once. Without input feeding, the recursion does not depend
    on the attention: with the scores of `LuongAttention`, except "concat", the attention then moves
    out of the time loop, and all steps attend at once.

    Weights: those of the inner cell and of the attention, then `feedback_kernel` W_f `(width of o_t
    or c_t, width of a_t)` and `output_kernel` W_c `(width of [c_t; h_t], units)`. States: those of
    the inner cell; then o_t or c_t, if fed back with `query="output"`; then the attention weights
    `(batch, positions)` and the attention's other states.

    Args:
        cell: a new `kerasrnn.Cell`, which keeps its own dropout and initializers. It may be a
            wrapper, such as a `FeedbackCell`.
        attention: a new `kerasrnn` attention.
        units: positive integer: the width of o_t; None: o_t = [c_t; h_t].
        query: "output" or "state".
        input_feeding: whether o_{t-1} enters the step; with "state" c_t always does.
        activation: activation of o_t, only with `units`.
        kernel_initializer: initializer of W_f and W_c.
        kernel_regularizer: regularizer of W_f and W_c.
        kernel_constraint: constraint on W_f and W_c.
        **kwargs: keyword arguments of Keras's layers. Other arguments of `Cell`, such as the
            dropout, belong to `cell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: in one list; see `get_initial_state`.
        training: whether the cell's dropout is applied.
        prepared: the memory, as returned by `prepare_memory`.

    Returns:
        `(o_t, new_states)`.

    Masking: a masked position of the memory has a weight of 0; a row with a fully masked memory has
    the context 0. At a masked step of the sequence, in a layer, all states are carried over.

    Raises:
        ValueError: `cell` is not a kerasrnn cell, is built, or attends itself; `attention` is not
            an attention, or is built; an argument is out of its range; the memory is missing.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.AttentionCell(
        ...     kerasrnn.LSTMCell(8), kerasrnn.LuongAttention("general"), units=5)
        >>> layer = kerasrnn.RNN(cell, return_sequences=True)
        >>> y = layer(np.ones((2, 4, 3), "float32"), memory=np.ones((2, 7, 6), "float32"))
        >>> tuple(y.shape)
        (2, 4, 5)
    """

    parts = ("cell", "attention")
    reads_memory = True

    @validation.checked
    def __init__(
        self,
        cell: Cell,
        attention: Attention,
        units: PositiveInteger | None = None,
        query: str = "output",
        input_feeding: bool = True,
        activation: str | Callable | None = "tanh",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(attention, Attention):
            raise ValueError(
                f"attention={attention!r}: expected an attention of kerasrnn, such as "
                "BahdanauAttention."
            )
        if isinstance(cell, Cell) and cell.reads_memory:
            raise ValueError(
                f"cell={cell!r} attends to the memory itself; expected a cell without attention."
            )
        if attention.built:
            raise ValueError(f"attention: {attention.name} is built; expected a new one.")
        if query not in QUERIES:
            raise ValueError(f"query={query!r}: expected one of {', '.join(map(repr, QUERIES))}.")
        if query == "state" and not input_feeding:
            raise ValueError(
                "input_feeding=False: with query='state' the context enters the step that computed "
                "the query; expected True."
            )
        super().__init__(
            cell,
            getattr(cell, "units", None) if units is None else units,
            activation=activation,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            kernel_constraint=kernel_constraint,
            **kwargs,
        )
        unused = keras.activations.tanh, keras.activations.linear  # the default; none
        if units is None and self.activation not in unused:
            raise ValueError(
                f"activation={activation!r}: without units, o_t = [c_t; h_t]; expected `units`, or "
                "no activation."
            )
        self.attention = attention
        self.projected = units is not None
        self.query = query
        self.input_feeding = input_feeding
        fed = ("fed",) if self.feeds_back else ()
        self.state_names = (*cell.state_names, *fed, "weights", *attention.state_names)
        self.context_size: int | None = None  # known after building

    @property
    def feeds_back(self) -> bool:
        """Whether a state stores the values fed back into the next step."""
        return self.input_feeding and self.query == "output"

    @property
    def leaves_loop(self) -> bool:
        """Whether all steps attend at once, after the loop."""
        return not self.input_feeding and self.attention.at_once

    @property
    def state_shapes(self) -> list[Any]:
        fed = [(self._feedback_size(),)] if self.feeds_back else []
        of_attention = [(None,) for _ in ("weights", *self.attention.state_names)]
        return [*self.cell.state_shapes, *fed, *of_attention]

    @property
    def external_state_names(self) -> tuple[str, ...]:
        return self.cell.external_state_names

    @property
    def external_state_shapes(self) -> list[Any]:
        return self.cell.external_state_shapes

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        if self.projected:
            return (self.units,)
        known = self.context_size is not None
        return (self.context_size + self.cell.output_size if known else None,)

    def build(
        self, input_shape: Sequence[int | None], memory_shape: Sequence[int | None] | None = None
    ) -> None:
        if memory_shape is None:
            raise ValueError(f"{self.name}: no memory was given; expected one to attend to.")
        if len(memory_shape) != 3 or memory_shape[-1] is None:
            raise ValueError(
                f"{self.name}: memory has the shape {tuple(memory_shape)}; expected (batch, "
                "positions, width), of a known width."
            )
        self.context_size = memory_shape[-1]
        self.build_cell(input_shape, None)
        of_output = query = self.width_of_output()
        if self.query == "state":
            first = self.cell.state_shapes[0]
            if not is_shape(first) or len(first) != 1:
                raise ValueError(
                    f"query='state': the first state of {type(self.cell).__name__} has the shape "
                    f"{first}; expected a vector, or query='output'."
                )
            query = first[0]
        self.attention.build((None, query), memory_shape)
        if self.input_feeding:
            self.feedback_kernel = self.add_weight(
                shape=(self._feedback_size(), self.input_part_size),
                name="feedback_kernel",
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
        if self.projected:
            self.output_kernel = self.add_weight(
                shape=(self.context_size + of_output, self.units),
                name="output_kernel",
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
        self.built = True

    def prepare_memory(self, memory: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Compute once what depends only on the memory: tensors with a batch axis, by name.

        Args:
            memory: `(batch, positions, width)`: keys and values.
            mask: boolean `(batch, positions)`, True = may be attended to.

        Raises:
            ValueError: the memory has no positions, or not the width that the cell was built for.
        """
        shape = tuple(memory.shape)
        if len(shape) != 3 or shape[1] == 0 or shape[-1] not in (None, self.context_size):
            raise ValueError(
                f"{self.name}: memory has the shape {shape}; expected (batch, positions, "
                f"{self.context_size}), with at least one position."
            )
        if mask is not None:
            mask = boolean_mask(
                f"{self.name}: mask",
                mask,
                shape[:2],
                axes="(batch, positions)",
                used="it may be attended to",
            )
        return self.attention.prepare_memory(memory, None, mask)

    def external_initial_state(self, batch_size: int | None = None) -> list[Any]:
        return self.cell.external_initial_state(batch_size)

    def extend_states(self, states: Sequence[Any], prepared: Mapping[str, Tensor]) -> list[Any]:
        """Complete the states of the inner cell to all states."""
        prepared = self.expected(prepared)
        rows = ops.shape(prepared["attention_mask"])[0]
        fed = []
        if self.feeds_back:
            fed.append(ops.zeros((rows, self._feedback_size()), dtype=self.compute_dtype))
        return self.join_states(states, [*fed, *self.attention.initial_states(prepared)])

    def weights_of_step(self, states: Sequence[Any]) -> Tensor:
        """The attention weights of the step that returned these states, `(batch, positions)`."""
        return states[self.state_names.index("weights")]

    def draw_noise(self, inputs: Tensor, states: Sequence[Any], steps: Any = None) -> Noise:
        noise = super().draw_noise(inputs, states, steps)
        if not self.attention.noisy:
            return noise
        rows, positions = ops.shape(self.weights_of_step(states))
        shape = (rows, positions) if steps is None else (rows, steps, positions)
        of_attention = self.attention.draw_noise(shape, self.compute_dtype)
        return noise._replace(steps={**noise.steps, "attention": of_attention})

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        used, _ = super().used_in_step(weights, memory)
        of_attention, of_memory = (
            {name: x for name, x in group.items() if name in self.attention.step_weights}
            for group in (weights["attention"], memory)
        )
        return {**used, "attention": of_attention}, of_memory

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        of_cell = super().recurrent_products(weights)
        of_attention = self.attention.products(_of_attention(weights))
        feedback: tuple[Product, ...] = ()
        if self.input_feeding:
            feedback = (RecurrentProduct(weights["feedback_kernel"], None),)
        output: tuple[Product, ...] = ()
        if self.projected:
            output = (RecurrentProduct(weights["output_kernel"], None),)
        if self.query == "state":
            return (*of_attention, *feedback, *of_cell, *output)
        return (*feedback, *of_cell, *of_attention, *output)

    def step(
        self,
        a: Tensor,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Any]]:
        of_cell, states = self.split_states(states)
        inner, attended = weights.of("cell"), _of_attention(weights)
        if self.projected:
            *products, readout = products
        count = self.attention.product_count
        if self.query == "state":
            of_attention, (feedback, *products) = products[:count], products[count:]
            context, states = self.attention.attend(of_cell[0], states, attended, of_attention)
            a = self.add_feedback(a, feedback(context))
            h, of_cell = self.cell.step(a, of_cell, inner, tuple(products))
        else:
            if self.input_feeding:
                fed, *states = states
                feedback, *products = products
                a = self.add_feedback(a, feedback(fed))
            products, of_attention = products[:-count], products[-count:]
            h, of_cell = self.cell.step(a, of_cell, inner, tuple(products))
            context, states = self.attention.attend(h, states, attended, of_attention)
        output = ops.concatenate([context, h], axis=-1)
        if self.projected:
            output = self.activation(readout(output))
        fed = [output if self.projected else context] if self.feeds_back else []
        return output, self.join_states(of_cell, [*fed, *states])

    def run(self, options: Options, call: Call, jit_compile: JitCompile) -> Results:
        if not self.leaves_loop or options.return_all_states:
            return super().run(options, call, jit_compile)
        inner = Call(
            call.sequences,
            self.split_states(call.states)[0],
            call.weights["cell"],
            {},
            Noise(*(named.get("cell", {}) for named in call.noise)),
            call.mask,
        )
        # The output is masked below, since the last one is the query of the final weights.
        repeating = dataclasses.replace(options, zero_output_for_mask=False)
        last, outputs, finals, _ = loop.run(self.cell, repeating, inner, jit_compile)
        output, alpha = self._attended(last if outputs is None else outputs[:, -1], call)
        if outputs is not None:
            output, _ = self._attended(outputs, call)
        if call.mask is not None:
            # Before the first valid step, outputs are zeros and weights have their initial values.
            used = ops.flip(call.mask, 1) if options.go_backwards else call.mask
            started = ops.cumsum(ops.cast(used, "int32"), axis=1) > 0
            alpha = ops.where(started[:, -1:], alpha, call.states[-1])
            shown = used if options.zero_output_for_mask else started
            shown = shown[:, -1:] if outputs is None else ops.expand_dims(shown, -1)
            output = ops.where(shown, output, ops.zeros_like(output))
        finals = [*finals, alpha]
        return Results(output, None, finals) if outputs is None else Results(None, output, finals)

    def _attended(self, h: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Compute o and alpha of one step, `(batch, units)`, or of all steps at once."""
        weights = {**call.weights["attention"], **call.memory}
        context, (alpha,) = self.attention.attend(
            h, call.states[-1:], weights, self.attention.products(weights)
        )
        output = ops.concatenate([context, h], axis=-1)
        if self.projected:
            output = self.activation(ops.matmul(output, call.weights["output_kernel"]))
        return output, alpha

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units if self.projected else None}

    def _feedback_size(self) -> int | None:
        return self.units if self.projected and self.query == "output" else self.context_size


def _of_attention(weights: Weights) -> dict[str, Tensor]:
    """The weights of the attention, the prepared memory and the noise, by name."""
    noise = weights.noise.get("attention")
    return {**weights["attention"], **weights.memory, "attention_noise": noise}
