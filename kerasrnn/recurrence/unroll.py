"""A cell unrolled over time, forward and backward: the algorithm that all backends share.

It is written with `keras.ops` and the two primitives of `Backend`: a scan and a vector-Jacobian
product. The names follow docs/bptt.md; `d_v` is dL/dv.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.checks import (
    check_products,
    check_returned,
    check_step,
    check_weight_gradients,
)
from kerasrnn.recurrence.loop import (
    Call,
    Options,
    Results,
    Steppable,
    Weights,
    state_dtype,
)
from kerasrnn.recurrence.products import Product
from kerasrnn.recurrence.segments import Segments, length_of, map_some
from kerasrnn.recurrence.step import AutomaticStep, ManualStep, PreparedCell

Tensor = Any


class Steps(NamedTuple):
    """The inputs of the steps, each with time as its first axis."""

    x: Tensor
    keeps: Tensor | None
    """`(time, batch, 1)`: whether a step is valid."""

    borders: Tensor | None
    """`(time,)`: whether the gradient of the states is cut before a step."""

    noise: dict[str, Any]
    """The noise that differs from step to step."""


class EveryStep(NamedTuple):
    """The results that every step has, `(time, batch, ...)`, or their gradients; None where they
    are not returned."""

    outputs: Tensor | None
    states: list[Any] | None


class Residuals(NamedTuple):
    """Values stored by the forward pass for the backward pass, each `(time, batch, ...)`."""

    states: list[Any]  # before each step
    steps: Any  # of each step; see `AutomaticStep` and `ManualStep`


class Carry(NamedTuple):
    """The values passed from step to step; in the backward pass, their gradients."""

    output: Tensor | None  # None if no step and no result needs it
    states: list[Any]


class Unroll:
    """One call of the loop, with everything that is constant over time prepared once.

    The states are carried in `state_dtype`. Products use the compute dtype.
    """

    def __init__(self, backend: Backend, cell: Steppable, options: Options, call: Call) -> None:
        self.backend, self.cell, self.options = backend, cell, options
        self.weights, self.memory, self.noise = call.weights, call.memory, call.noise
        self.length = call.steps  # of padded sequences, which are never cut into segments
        self.compute_dtype = keras.backend.standardize_dtype(call.sequences.dtype)
        self.state_dtype = state_dtype(self.compute_dtype)
        self.prepared = PreparedCell(
            backend, cell, self.cell_weights, *self._prepare(self.weights, self.memory)
        )
        self.step = (AutomaticStep if cell.adjoint() is None else ManualStep)(self.prepared)
        x, keeps = self._in_order(call.sequences), None
        if call.mask is not None:
            keeps = ops.expand_dims(self._in_order(call.mask), -1)  # (time, batch, 1)
        of_steps = tree.map_structure(self._in_order, call.noise.steps)
        self.steps = Steps(x, keeps, self._borders(x), of_steps)
        self.zeros = ops.zeros(
            (ops.shape(call.sequences)[0], *cell.step_output_shape), dtype=self.state_dtype
        )
        # Only a last output, or one that masked steps repeat, is carried from step to step.
        self.carries_output = self._holds() or not options.return_sequences
        self.start = Carry(
            self.zeros if self.carries_output else None, self._in_state_dtype(call.states)
        )

    def cell_weights(
        self, weights: Mapping[str, Any], memory: Mapping[str, Tensor], noise: dict[str, Any]
    ) -> Weights:
        """The weights passed to a cell, with the noise of one step or of several."""
        return Weights(weights, memory, self.noise.of_one_step(noise), self.options.training)

    def forward(self) -> Results:
        """Run the loop without storing residuals; a gradient is computed automatically."""
        length = self._segment_length()
        if length is None:
            end, every, _ = self._segment(self.steps, self.start)
        else:
            end, every, _ = self._segments(length)
        return self._results(end, every)

    def _segment_length(self) -> int | None:
        """The number of steps in a segment of a forward pass without residuals; None: all."""
        steps, batch = self.steps.x.shape[:2]
        if not (isinstance(steps, int) and isinstance(batch, int)):
            return None
        outputs = steps * math.prod(self.zeros.shape) if self.options.return_sequences else 0
        rows = self.backend.segment_rows(self._input_part, self.steps, outputs)
        length = None if rows is None else max(rows // max(batch, 1), 1)
        return None if length is None or steps <= length else length

    def forward_with_residuals(self) -> tuple[Results, Any]:
        """Run the loop and return the results and the residuals for `backward`."""
        if not self._checkpoints():
            end, every, residuals = self._segment(self.steps, self.start, with_residuals=True)
            return self._results(end, every), residuals
        end, every, residuals = self._segments(self.options.checkpoint_every)
        return self._results(end, every), residuals

    def _segments(self, length: int | str) -> tuple[Carry, EveryStep, tuple[Any, Carry]]:
        """Run the steps in segments: returns the final carry, the results of every step, and the
        carries before each of the full segments and before the last one."""
        segments = Segments(length, self.steps.x)
        full, rest = segments.cut(self.steps)

        def body(carry: Carry, steps: Steps) -> tuple[Carry, Any]:
            end, every, _ = self._segment(steps, carry)
            return end, (carry, every)

        middle, (starts, every) = self.backend.scan(body, self.start, full)
        middle = segments.if_any(middle, self.start)
        end, of_rest, _ = self._segment(rest, middle)
        return end, map_some(segments.joined, every, of_rest), (starts, middle)

    def backward(
        self, residuals: Any, d_results: Results
    ) -> tuple[Tensor, list[Any], dict[str, Any], dict[str, Tensor]]:
        """Compute the gradients of the sequences, initial states, weights and memory."""
        d_output = None
        if d_results.output is not None:
            d_output = ops.cast(d_results.output, self.state_dtype)
        elif self._holds():
            d_output = ops.zeros_like(self.zeros)
        d_carry = Carry(d_output, self._in_state_dtype(d_results.states))
        d_every = EveryStep(d_results.outputs, d_results.all_states)
        d_every = map_some(lambda d: ops.swapaxes(d, 0, 1), d_every)
        if not self._checkpoints():
            gradients = self._segment_adjoint(self.steps, d_every, residuals, d_carry)
        else:
            gradients = self._checkpointed_adjoint(d_every, residuals, d_carry)
        d_carry, d_x, (d_weights, d_memory) = gradients
        d_sequences = ops.swapaxes(ops.flip(d_x, 0) if self.options.go_backwards else d_x, 0, 1)
        return d_sequences, self._in_compute_dtype(d_carry.states), d_weights, d_memory

    def _checkpointed_adjoint(
        self, d_every: EveryStep, residuals: Any, d_carry: Carry
    ) -> tuple[Carry, Tensor, tuple[dict[str, Any], dict[str, Tensor]]]:
        """Recompute each segment from its start, then differentiate it."""
        starts, middle = residuals
        segments = Segments(self.options.checkpoint_every, self.steps.x)
        full, rest = segments.cut((self.steps, d_every))

        def segment(steps: Steps, d_every: EveryStep, start: Carry, d_carry: Carry) -> Any:
            _, _, residuals = self._segment(steps, start, with_residuals=True)
            return self._segment_adjoint(steps, d_every, residuals, d_carry)

        d_carry, d_rest, d_constants = segment(*rest, middle, d_carry)
        of_rest = d_carry, d_constants

        def body(carry: Any, xs: Any) -> Any:
            d_carry, d_constants = carry
            d_carry, d_x, more = segment(*xs, d_carry)
            return (d_carry, tree.map_structure(ops.add, d_constants, more)), d_x

        of_all, d_full = self.backend.scan(body, of_rest, (*full, starts), reverse=True)
        d_carry, d_constants = segments.if_any(of_all, of_rest)
        return d_carry, segments.joined(d_full, d_rest), d_constants

    def _input_part(self, steps: Steps) -> Tensor:
        weights = self.cell_weights(self.weights, self.memory, steps.noise)
        return self.cell.input_part(steps.x, weights)

    def _prepare(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[tuple[Product, ...], dict[str, Any], dict[str, Tensor]]:
        products = self.cell.recurrent_products(self.cell_weights(weights, memory, {}))
        check_products(self.cell, products)
        used = self.cell.used_in_step(weights, memory)
        return products, *map(self._in_state_dtype, used)

    def _segment(
        self, steps: Steps, start: Carry, with_residuals: bool = False
    ) -> tuple[Carry, EveryStep, Residuals | None]:
        """Run some steps: returns the final carry, the results of every step and the residuals."""
        a = self._input_part(steps)

        def body(carry: Carry, steps: Steps) -> tuple[Carry, Any]:
            output, states = carry
            a, keep, border, noise = steps
            if border is not None:
                states = tree.map_structure(
                    lambda s: ops.where(border, ops.stop_gradient(s), s), states
                )
            a = ops.cast(a, self.state_dtype)
            if with_residuals:
                new_output, new, residuals = self.step.forward(a, states, noise)
                residuals = Residuals(states, residuals)
            else:
                weights = self.prepared.weights_of_step(noise)
                returned = self.cell.step(a, states, weights, self.prepared.products)
                check_returned(self.cell, returned)
                (new_output, new), residuals = returned, None
            check_step(self.cell, new_output, new, self.zeros, states)
            # On JAX, Keras computes some float64 operations in float32; a scan's types are fixed.
            new_output = ops.cast(new_output, self.state_dtype)
            new = self._in_state_dtype(_like(states, new))
            if keep is not None:
                masked_output = self.zeros if self.options.zero_output_for_mask else output
                new_output = where_rows(keep, new_output, masked_output)
                new = tree.map_structure(lambda s, old: where_rows(keep, s, old), new, states)
            every = self._every_step(new_output, new)
            return Carry(new_output if self.carries_output else None, new), (every, residuals)

        end, (every, residuals) = self.backend.scan(
            body,
            start,
            steps._replace(x=a),
            prefetch=not self.cell.single_read,
            steps=self.length,
        )
        return end, every, residuals

    def _every_step(self, outputs: Tensor, states: list[Any]) -> EveryStep:
        """What is returned of one step, or of all of them, in the compute dtype."""
        return EveryStep(
            ops.cast(outputs, self.compute_dtype) if self.options.return_sequences else None,
            self._in_compute_dtype(states) if self.options.return_all_states else None,
        )

    def _segment_adjoint(
        self, steps: Steps, d_every: EveryStep, residuals: Residuals, d_end: Carry
    ) -> tuple[Carry, Tensor, tuple[dict[str, Any], dict[str, Tensor]]]:
        """Compute the gradients of the initial carry, of x, and of the weights and the memory."""

        def outside(x: Tensor, weights: dict[str, Any], memory: dict[str, Tensor]) -> Any:
            products, *used = self._prepare(weights, memory)
            a = self.cell.input_part(x, self.cell_weights(weights, memory, steps.noise))
            return a, [product.weights for product in products], used

        (a, _, _), vjp_fn = self.backend.vjp(outside, (steps.x, self.weights, self.memory))

        def body(carry: Any, xs: tuple[Any, ...]) -> tuple[Any, Any]:
            (d_output, d_states), d_used = carry
            (a, keep, border, noise), every, residuals = xs
            if every.outputs is not None:
                d_outputs = ops.cast(every.outputs, self.state_dtype)
                d_output = d_outputs if d_output is None else d_output + d_outputs
            if every.states is not None:
                d_states = tree.map_structure(
                    ops.add, d_states, self._in_state_dtype(_like(d_states, every.states))
                )
            d_masked_output = None if d_end.output is None else ops.zeros_like(d_output)
            if keep is not None:
                # At a masked step the entire gradient bypasses the cell.
                bypassing = tree.map_structure(
                    lambda d: where_rows(keep, ops.zeros_like(d), d), d_states
                )
                d_states = tree.map_structure(
                    lambda d: where_rows(keep, d, ops.zeros_like(d)), d_states
                )
                if self._holds():
                    d_masked_output = where_rows(keep, d_masked_output, d_output)
                d_output = where_rows(keep, d_output, ops.zeros_like(d_output))
            step = self.step.backward(
                None if a is None else ops.cast(a, self.state_dtype),
                residuals.states,
                noise,
                residuals.steps,
                d_output,
                d_states,
            )
            d_states = self._in_state_dtype(_like(d_states, step.d_states))
            if keep is not None:
                d_states = tree.map_structure(ops.add, d_states, bypassing)
            if border is not None:
                d_states = tree.map_structure(
                    lambda d: ops.where(border, ops.zeros_like(d), d), d_states
                )
            d_used = tree.map_structure(ops.add, d_used, [step.d_weights, step.d_memory])
            # If a gate adds its two parts, as most do, their gradients are the same tensor.
            d_results = [[None if d is step.d_a else d for d in of] for of in step.d_results]
            return (Carry(d_masked_output, d_states), d_used), (step.d_a, d_results)

        zeros = tree.map_structure(ops.zeros_like, [self.prepared.weights, self.prepared.memory])
        read = steps._replace(x=a if self.step.needs_input_part() else None)
        (d_start, d_used), (d_a, d_results) = self.backend.scan(
            body, (d_end, zeros), (read, d_every, residuals), reverse=True, steps=self.length
        )
        d_a, d_results = tree.map_structure(self._without_padding, (d_a, d_results))
        arguments = self.step.arguments(residuals.states, residuals.steps)
        d_products = [
            _weight_gradients(product, vs, [d_a if d is None else d for d in ds])
            for product, vs, ds in zip(self.prepared.products, arguments, d_results, strict=True)
        ]
        d_x, *d_constants = vjp_fn((ops.cast(d_a, a.dtype), d_products, d_used))
        return d_start, d_x, tuple(d_constants)

    def _without_padding(self, d: Tensor | None) -> Tensor | None:
        """Set the gradients of steps that were not run to zero."""
        if d is None or self.length is None:
            return d
        runs = ops.arange(ops.shape(d)[0]) < self.length
        return ops.where(ops.reshape(runs, (-1, *(1 for _ in d.shape[1:]))), d, ops.zeros_like(d))

    def _in_state_dtype(self, structure: Any) -> Any:
        return tree.map_structure(lambda x: ops.cast(x, self.state_dtype), structure)

    def _in_compute_dtype(self, structure: Any) -> Any:
        return tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), structure)

    def _in_order(self, x: Tensor) -> Tensor:
        """Transpose `(batch, time, ...)` to `(time, batch, ...)`, in the order of the steps."""
        x = ops.swapaxes(x, 0, 1)
        return ops.flip(x, 0) if self.options.go_backwards else x

    def _borders(self, x: Tensor) -> Tensor | None:
        """Mark where the gradient of the states is cut: before every `truncate_every`-th step."""
        if self.options.truncate_every is None:
            return None
        steps = ops.arange(ops.shape(x)[0])
        return ops.logical_and(steps > 0, steps % self.options.truncate_every == 0)

    def _holds(self) -> bool:
        """Whether a masked step repeats the previous output."""
        return self.steps.keeps is not None and not self.options.zero_output_for_mask

    def _checkpoints(self) -> bool:
        """Whether there is more than one segment, as far as is known."""
        length, steps = self.options.checkpoint_every, self.steps.x.shape[0]
        return length is not None and (steps is None or steps > length_of(length, steps))

    def _results(self, end: Carry, every: EveryStep) -> Results:
        outputs, states = map_some(lambda x: ops.swapaxes(x, 0, 1), every)
        return Results(
            None if self.options.return_sequences else ops.cast(end.output, self.compute_dtype),
            outputs,
            self._in_compute_dtype(end.states),
            states,
        )


def _weight_gradients(product: Product, arguments: list[Tensor], d_results: list[Tensor]) -> Any:
    """The gradients of one product's weights, summed over its applications."""
    gradients = [product.weight_gradients(v, d) for v, d in zip(arguments, d_results, strict=True)]
    if not gradients:
        return map_some(ops.zeros_like, product.weights)
    for of_application in gradients:
        check_weight_gradients(product, of_application)
    total, *others = gradients
    for more in others:
        total = map_some(ops.add, total, more)
    return total


def where_rows(keep: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Choose by row; `keep` is `(batch, 1)` or `(time, batch, 1)`, and x has any further axes."""
    missing = len(x.shape) - len(keep.shape)
    for _ in range(missing):
        keep = ops.expand_dims(keep, -1)
    return ops.where(keep if missing >= 0 else keep[..., 0], x, y)


def _like(structure: Any, values: Any) -> Any:
    """Values in the same structure, with tuples and lists exchanged where they differ."""
    return tree.pack_sequence_as(structure, tree.flatten(values))
