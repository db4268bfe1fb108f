"""A cell unrolled over time in chunks: a chunk of steps is computed at once, by matrix products.

Only the states before each chunk are stored. The gradient computes every chunk again and
differentiates it automatically, in reverse order: this is what `checkpoint_every` does with the
steps of other cells.
"""

import dataclasses
from typing import Any

from keras import ops, tree

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.checks import check_returned, check_step
from kerasrnn.recurrence.linear import LinearUnroll
from kerasrnn.recurrence.loop import Call, Options, Results, Steppable
from kerasrnn.recurrence.unroll import Carry, EveryStep, Steps

Tensor = Any


class ChunkedUnroll(LinearUnroll):
    """One call of the loop for a cell with `chunk`."""

    def __init__(self, backend: Backend, cell: Steppable, options: Options, call: Call) -> None:
        length = cell.chunk_size
        if options.truncate_every is not None:  # borders may only be between chunks
            every = options.truncate_every
            length = max(n for n in range(1, min(length, every) + 1) if every % n == 0)
        options = dataclasses.replace(options, checkpoint_every=length)
        if call.steps is not None:  # padded steps are masked, since segments have no other end
            rows, steps = ops.shape(call.sequences)[:2]
            runs = ops.broadcast_to(ops.arange(steps)[None] < call.steps, (rows, steps))
            mask = runs if call.mask is None else ops.logical_and(call.mask, runs)
            call = call._replace(mask=mask, steps=None)
        super().__init__(backend, cell, options, call)

    def forward(self) -> Results:
        results, _ = self.forward_with_residuals()
        return results

    def _segment(
        self, steps: Steps, start: Carry, with_residuals: bool = False
    ) -> tuple[Carry, EveryStep, Any]:
        y, finals = self._chunk(steps, steps.x, start.states, self.weights, self.memory)
        y, output = self._with_mask_rule(y, steps.keeps, start.output)
        end = Carry(output if self.carries_output else None, finals)
        return end, self._every_step(y, []), start.states if with_residuals else None

    def _segment_adjoint(
        self, steps: Steps, d_every: EveryStep, residuals: list[Any], d_end: Carry
    ) -> tuple[Carry, Tensor, tuple[dict[str, Any], dict[str, Tensor]]]:
        def chunk(x: Tensor, states: list[Any], weights: Any, memory: Any) -> Any:
            return self._chunk(steps, x, states, weights, memory)

        arguments = (steps.x, residuals, self.weights, self.memory)
        _, vjp_fn = self.backend.vjp(chunk, arguments)
        d_y, d_start_output = self._mask_rule_adjoint(d_every.outputs, d_end.output, steps.keeps)
        d_x, d_states, *d_constants = vjp_fn((d_y, d_end.states))
        return Carry(d_start_output, self._in_state_dtype(d_states)), d_x, tuple(d_constants)

    def _chunk(
        self, steps: Steps, x: Tensor, states: list[Any], weights: Any, memory: Any
    ) -> tuple[Tensor, list[Any]]:
        """The outputs, and the states after the last step."""
        _, *used = self._prepare(weights, memory)
        a = self.cell.input_part(x, self.cell_weights(weights, memory, steps.noise))
        if steps.borders is not None:
            states = tree.map_structure(
                lambda s: ops.where(steps.borders[0], ops.stop_gradient(s), s), states
            )
        returned = self.cell.chunk(
            ops.cast(a, self.state_dtype),
            states,
            steps.keeps,
            self.cell_weights(*used, steps.noise),
        )
        check_returned(self.cell, returned)
        y, finals = returned
        check_step(self.cell, y[0], finals, self.zeros, states)
        if not self.options.return_sequences:
            y = ops.expand_dims(self._last(y, steps.keeps), 0)
        return ops.cast(y, self.state_dtype), self._in_state_dtype(list(finals))
