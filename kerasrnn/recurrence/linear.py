"""A linear cell unrolled over time: its states are those of a linear recurrence.

    s_t = decay_t * s_{t-1} + update_t,        y_t = read(s_t, a_t)

The coefficients do not depend on the states. They are computed for all steps at once, as are the
outputs and their gradients; only the recurrence itself runs over time. Its gradient is the same
recurrence backwards, with g_t = dL/ds_t through the output y_t alone:

    ds_t = g_t + conj(decay_{t+1}) * ds_{t+1}
    d_decay_t = ds_t * conj(s_{t-1}),   d_update_t = ds_t

At a masked step the coefficients are (1, 0), and a border of truncated backpropagation is a decay
of 0 in the second recurrence. An output that masked steps repeat is itself such a recurrence,
without a decay.

Where a device computes one step at a time, a recurrence is a loop. Elsewhere it is an associative
scan: Blelloch (1990), "Prefix sums and their applications".

In training on CPUs, long sequences are cut into segments that stay in the cache. Everything said
above of all steps then holds for those of a segment, and only the states before each segment are
stored: the backward pass computes the coefficients again in any case, and here the states too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops, tree

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.checks import check_coefficients, check_step
from kerasrnn.recurrence.loop import Call, Options, Steppable
from kerasrnn.recurrence.unroll import Carry, EveryStep, Steps, Unroll, where_rows
from kerasrnn.recurrence.windows import delays

Tensor = Any

# A sequence is cut if its input part has more elements than the first, into segments whose input
# part has at most the second, which is 256 KB: measured in benchmarks/speed/NOTES.md.
LONG, SEGMENT = 1 << 21, 1 << 16


class Inputs(NamedTuple):
    """What the steps read besides the states, computed for all of them from the inputs."""

    a: Tensor
    weights: tuple[Any, Any]
    """The weights and the parts of the memory that `transition` and `read` use."""

    window: list[Tensor]
    """The window after the last step."""


class Coefficients(NamedTuple):
    """The coefficients of the recurrence."""

    decays: list[Tensor]
    """`(time, batch, ...)`; one that is the same at every step lacks the first two axes."""

    updates: list[Tensor]


class Residuals(NamedTuple):
    """Values stored by the forward pass for the backward pass."""

    states: list[Tensor]
    """The states of the recurrence after each step, `(time, batch, ...)`."""

    start: list[Tensor]
    """All states before the first step."""

    a: Tensor
    """See `Inputs`: the products of the inputs are computed once."""


class LinearUnroll(Unroll):
    """One call of the loop for a cell whose states follow a linear recurrence."""

    def __init__(self, backend: Backend, cell: Steppable, options: Options, call: Call) -> None:
        if options.training and options.checkpoint_every is None and backend.cuts_sequences():
            length = _steps_in_cache(cell, call)
            options = dataclasses.replace(options, checkpoint_every=length)
        super().__init__(backend, cell, options, call)

    def _segment(
        self, steps: Steps, start: Carry, with_residuals: bool = False
    ) -> tuple[Carry, EveryStep, Residuals | None]:
        keep, (linear, window) = steps.keeps, self._split(start.states)
        a, weights, window = self._inputs(steps, steps.x, window, self.weights, self.memory)
        decays, updates = self._coefficients(steps, a, weights)
        borders = None if with_residuals else steps.borders  # differentiated automatically
        finals, states = self._recurrence(decays, updates, linear, keep, borders)
        residuals = Residuals(states, start.states, a) if with_residuals else None
        shown = states if self.options.return_sequences else finals
        y = self._read(steps, shown, a, weights)
        y, output = self._with_mask_rule(y, keep, start.output)
        end = Carry(output if self.carries_output else None, [*finals, *window])
        return end, self._every_step(y, states), residuals

    def _segment_adjoint(
        self, steps: Steps, d_every: EveryStep, residuals: Residuals, d_end: Carry
    ) -> tuple[Carry, Tensor, tuple[dict[str, Any], dict[str, Tensor]]]:
        keep, sequences = steps.keeps, self.options.return_sequences
        linear, window = self._split(residuals.start)
        states = [self._without_padding(s) for s in residuals.states]

        def inputs(x: Tensor, window: Any, weights: Any, memory: Any) -> Inputs:
            return self._inputs(steps, x, window, weights, memory)

        def coefficients(a: Tensor, weights: tuple[Any, Any]) -> Coefficients:
            return self._coefficients(steps, a, weights)

        def read(states: list[Tensor], a: Tensor, weights: tuple[Any, Any]) -> Tensor:
            shown = states if sequences else [self._last(s, keep) for s in states]
            return self._read(steps, shown, a, weights)

        arguments = (steps.x, window, self.weights, self.memory)
        (_, weights, _), inputs_vjp = self.backend.vjp(inputs, arguments)
        (decays, updates), vjp_fn = self.backend.vjp(coefficients, (residuals.a, weights))
        _, read_vjp = self.backend.vjp(read, (states, residuals.a, weights))
        d_y, d_start_output = self._mask_rule_adjoint(d_every.outputs, d_end.output, keep)
        d_states, *d_read = read_vjp(d_y)
        if d_every.states is not None:
            more = self._in_state_dtype(d_every.states)
            d_states = [d + also for d, also in zip(d_states, more, strict=True)]
        d_linear, d_window = self._split(d_end.states)
        d_before, d_states = self._recurrence_adjoint(
            decays, d_states, d_linear, keep, steps.borders
        )
        d_states = [self._without_padding(d) for d in d_states]
        before = [
            ops.concatenate([ops.expand_dims(first, 0), s[:-1]])
            for first, s in zip(linear, states, strict=True)
        ]
        d_decays = self._times(self._conjugate(before), d_states)
        d_decays = [_summed(d, of) for d, of in zip(d_decays, decays, strict=True)]
        d_updates = [_summed(d, of) for d, of in zip(d_states, updates, strict=True)]
        d_coefficients = vjp_fn(Coefficients(d_decays, d_updates))
        d_a, d_weights = tree.map_structure(ops.add, tuple(d_read), tuple(d_coefficients))
        d_x, d_window, *d_constants = inputs_vjp(Inputs(d_a, d_weights, d_window))
        d_before = [*d_before, *self._in_state_dtype(d_window)]
        return Carry(d_start_output, d_before), d_x, tuple(d_constants)

    # Before and after the recurrence.

    def _split(self, states: list[Any]) -> tuple[list[Any], list[Any]]:
        """The states of the recurrence, and the window, if any."""
        count = len(states) - (1 if self.cell.window else 0)
        return list(states[:count]), list(states[count:])

    def _inputs(
        self, steps: Steps, x: Tensor, window: list[Tensor], weights: Any, memory: Any
    ) -> Inputs:
        products, *used = self._prepare(weights, memory)
        a = self.cell.input_part(x, self.cell_weights(weights, memory, steps.noise))
        a = ops.cast(a, self.state_dtype)
        if self.cell.window:
            a, inputs = self.cell.split_window(a)
            windows, window = self._windows(steps, inputs, window[0])
            a = a + products[0](windows)
        return Inputs(a, tuple(used), window)

    def _coefficients(self, steps: Steps, a: Tensor, weights: tuple[Any, Any]) -> Coefficients:
        decays, updates = self.cell.transition(a, self.cell_weights(*weights, steps.noise))
        decays, updates = _as_list(decays), _as_list(updates)
        check_coefficients(self.cell, decays, updates, self._split(self.start.states)[0])
        return Coefficients(*self._in_state_dtype((decays, updates)))

    def _read(
        self, steps: Steps, states: list[Tensor], a: Tensor, weights: tuple[Any, Any]
    ) -> Tensor:
        """The outputs, `(time, batch, ...)`; with `return_sequences=False`, of one step."""
        noise = steps.noise
        if not self.options.return_sequences:
            states = [ops.expand_dims(s, 0) for s in states]
            a, noise = tree.map_structure(
                lambda x: ops.expand_dims(self._last(x, steps.keeps), 0), (a, noise)
            )
        y = self.cell.read(states, a, self.cell_weights(*weights, noise))
        check_step(self.cell, y[0], [], self.zeros, [])
        return ops.cast(y, self.state_dtype)

    def _last(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The values at the last valid step; in a row without one, those of any step."""
        steps = ops.shape(x)[0] if self.length is None else self.length
        if keep is None:
            return x[-1] if self.length is None else ops.take(x, steps - 1, axis=0)
        index = ops.where(keep, ops.reshape(ops.arange(ops.shape(keep)[0]), (-1, 1, 1)), 0)
        if self.length is not None:
            index = ops.where(index < steps, index, 0)
        index = ops.max(index, axis=0, keepdims=True)
        index = ops.reshape(index, (1, -1, *(1 for _ in x.shape[2:])))
        return ops.take_along_axis(x, ops.broadcast_to(index, (1, *ops.shape(x)[1:])), axis=0)[0]

    def _with_mask_rule(
        self, y: Tensor, keep: Tensor | None, start: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The outputs at all steps, and the last one."""
        if not self.options.return_sequences:
            if keep is None:
                return y, y[0]
            if self._holds():
                return y, where_rows(ops.any(keep, axis=0), y[0], start)
            return y, where_rows(self._end(keep), y[0], self.zeros)
        if keep is None:
            return y, self._end(y)
        if not self._holds():
            y = where_rows(keep, y, ops.zeros_like(y))
            return y, self._end(y)
        (end,), (y,) = self._recurrence([None], [y], [start], keep)
        return y, end

    def _mask_rule_adjoint(
        self, d_outputs: Tensor | None, d_end: Tensor | None, keep: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The gradients of what `read` returns, and of the output before the first step."""
        nothing = None if d_end is None else ops.zeros_like(d_end)
        if not self.options.return_sequences:
            if keep is None:
                return ops.expand_dims(d_end, 0), nothing
            used = ops.any(keep, axis=0) if self._holds() else self._end(keep)
            d_start = where_rows(used, nothing, d_end) if self._holds() else nothing
            return ops.expand_dims(where_rows(used, d_end, nothing), 0), d_start
        d_y = ops.cast(d_outputs, self.state_dtype)
        if keep is None:
            return d_y, nothing
        if not self._holds():
            return where_rows(keep, d_y, ops.zeros_like(d_y)), nothing
        (d_start,), (d_y,) = self._recurrence_adjoint([None], [d_y], [d_end], keep, None)
        return d_y, d_start

    def _end(self, x: Tensor) -> Tensor:
        """The value after the last step."""
        return x[-1] if self.length is None else ops.take(x, self.length - 1, axis=0)

    def _windows(self, steps: Steps, inputs: Tensor, window: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The valid inputs before each step, latest first, joined; and the window at the end."""
        keep = self._valid(inputs, steps.keeps)
        time = ops.reshape(ops.arange(ops.shape(inputs)[0], dtype="float32"), (-1, 1, 1))
        last = None
        if keep is not None:  # the last valid step up to each; -1 is the start
            time = time * ops.ones_like(keep, dtype="float32")
            last = self._held(time, keep)
        delayed = delays(inputs, window, last)
        if steps.borders is not None:
            border = self._held(time, ops.reshape(steps.borders, (-1, 1, 1)))  # or -1: none yet
            border = ops.concatenate([border, border[-1:]])
            start = -ops.ones((ops.shape(time)[1], self.cell.window, 1), time.dtype)
            places = delays(time, start, last)
            delayed = [
                ops.where(place < border, ops.stop_gradient(x), x)
                for x, place in zip(delayed, places, strict=True)
            ]
        ends = [x[-1] if self.length is None else ops.take(x, self.length, axis=0) for x in delayed]
        return ops.concatenate([x[:-1] for x in delayed], axis=-1), [ops.stack(ends, axis=1)]

    def _held(self, time: Tensor, at: Tensor) -> Tensor:
        """The last of some steps up to each step; -1 before the first of them."""
        held = self._recurrence([None], [time], [-ops.ones_like(time[0])], at)[1][0]
        return self._without_padding(held)  # a valid index, where nothing was computed

    def _valid(self, x: Tensor, keep: Tensor | None) -> Tensor | None:
        """The mask `(time, batch, 1)` that also excludes the padded steps; None: all are valid."""
        if self.length is None:
            return keep
        runs = ops.reshape(ops.arange(ops.shape(x)[0]) < self.length, (-1, 1, 1))
        if keep is None:
            return ops.broadcast_to(runs, (*ops.shape(x)[:2], 1))
        return ops.logical_and(keep, runs)

    # The recurrence and its gradient. A decay of None stands for 0.

    def _recurrence(
        self,
        decays: list[Tensor | None],
        updates: list[Tensor],
        start: list[Tensor],
        keep: Tensor | None,
        borders: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The states after the last step and after every step.

        `borders`: where the gradient of the states is cut, if this is differentiated automatically.
        """
        if self.backend.scans_in_parallel() and borders is None:
            return self._parallel(decays, updates, start, keep)
        varying = [_varying(d, u) for d, u in zip(decays, updates, strict=True)]

        def body(states: list[Tensor], xs: Any) -> tuple[list[Tensor], list[Tensor]]:
            updates, now, keep, border = xs
            if border is not None:
                states = [ops.where(border, ops.stop_gradient(s), s) for s in states]
            decayed = self._times(_merged(now, decays), states)
            new = [u if d is None else d + u for d, u in zip(decayed, updates, strict=True)]
            if keep is not None:
                new = [where_rows(keep, s, old) for s, old in zip(new, states, strict=True)]
            return new, new

        # The states are written over the updates: see `backend.Backend.scan`.
        xs = (updates, varying, keep, borders)
        return self.backend.scan(body, start, xs, steps=self.length)

    def _recurrence_adjoint(
        self,
        decays: list[Tensor | None],
        d_states: list[Tensor],
        d_end: list[Tensor],
        keep: Tensor | None,
        borders: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The gradients of the states before the first step, and of the updates."""
        if self.backend.scans_in_parallel():
            return self._parallel_adjoint(decays, d_states, d_end, keep, borders)
        varying = [_varying(d, g) for d, g in zip(decays, d_states, strict=True)]

        def body(d_after: list[Tensor], xs: Any) -> tuple[list[Tensor], list[Tensor]]:
            d_states, now, keep, border = xs
            total = [d + after for d, after in zip(d_states, d_after, strict=True)]
            d_before = self._times(self._conjugate(_merged(now, decays)), total)
            d_before = [
                ops.zeros_like(t) if d is None else d for d, t in zip(d_before, total, strict=True)
            ]
            d_updates = total
            if keep is not None:  # at a masked step the entire gradient bypasses the cell
                d_before = [where_rows(keep, d, t) for d, t in zip(d_before, total, strict=True)]
                d_updates = [where_rows(keep, t, ops.zeros_like(t)) for t in total]
            if border is not None:
                d_before = [ops.where(border, ops.zeros_like(d), d) for d in d_before]
            return d_before, d_updates

        xs = (d_states, varying, keep, borders)
        return self.backend.scan(body, d_end, xs, reverse=True, steps=self.length)

    def _times(self, decays: list[Tensor | None], states: list[Tensor]) -> list[Tensor | None]:
        """The decayed states; None for a decay of 0."""
        if not self._is_complex(decays):
            pairs = zip(decays, states, strict=True)
            return [None if d is None else d * s for d, s in pairs]
        (d_r, d_i), (s_r, s_i) = decays, states
        return [d_r * s_r - d_i * s_i, d_r * s_i + d_i * s_r]

    def _conjugate(self, values: list[Tensor | None]) -> list[Tensor | None]:
        return [values[0], -values[1]] if self._is_complex(values) else values

    def _is_complex(self, values: list[Any]) -> bool:
        """Whether these are the two parts of complex numbers; outputs and masks never are."""
        return len(values) == 2 and self.cell.complex_states

    # The same as associative scans.

    def _parallel(
        self,
        decays: list[Tensor | None],
        updates: list[Tensor],
        start: list[Tensor],
        keep: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        keep = self._valid(updates[0], keep)
        factors = self._factors(decays, updates, keep)
        if keep is not None:
            updates = [where_rows(keep, u, ops.zeros_like(u)) for u in updates]
        states = self._prefixes(factors, updates, start)
        return [s[-1] for s in states], states

    def _parallel_adjoint(
        self,
        decays: list[Tensor | None],
        d_states: list[Tensor],
        d_end: list[Tensor],
        keep: Tensor | None,
        borders: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        keep = self._valid(d_states[0], keep)
        factors = self._conjugate(self._factors(decays, d_states, keep))
        if borders is not None:
            factors = [
                ops.where(ops.reshape(borders, (-1, *(1 for _ in f.shape[1:]))), 0.0, f)
                for f in factors
            ]
        # From the last step to the first; the gradient after the last step is multiplied by 1.
        later = [
            ops.flip(ops.concatenate([f[1:], ops.full_like(f[:1], one)]), 0)
            for f, one in zip(factors, self._one(factors), strict=True)
        ]
        total = self._prefixes(later, [ops.flip(d, 0) for d in d_states], d_end)
        total = [ops.flip(d, 0) for d in total]
        d_start = self._times([f[0] for f in factors], [d[0] for d in total])
        if keep is not None:
            total = [where_rows(keep, d, ops.zeros_like(d)) for d in total]
        return d_start, total

    def _factors(
        self, decays: list[Tensor | None], updates: list[Tensor], keep: Tensor | None
    ) -> list[Tensor]:
        """The decays of all steps, `(time, batch or 1, ...)`, 1 at masked steps."""
        factors = []
        for decay, update, one in zip(decays, updates, self._one(decays), strict=True):
            steps, rank = ops.shape(update)[0], len(update.shape)
            factor = ops.zeros((), update.dtype) if decay is None else decay
            if len(factor.shape) < rank:
                size = (steps, *(1 for _ in range(rank - 1 - len(factor.shape))))
                factor = ops.broadcast_to(factor, (*size, *ops.shape(factor)))
            if keep is not None:
                factor = where_rows(keep, factor, ops.cast(one, factor.dtype))
            factors.append(factor)
        return factors

    def _one(self, values: list[Any]) -> list[float]:
        return [1.0, 0.0] if self._is_complex(values) else [1.0 for _ in values]

    def _prefixes(
        self, factors: list[Tensor], updates: list[Tensor], start: list[Tensor]
    ) -> list[Tensor]:
        """`s[t] = factors[t] * s[t - 1] + updates[t]`, with `start` before the first."""
        decayed = self._times([f[:1] for f in factors], [ops.expand_dims(s, 0) for s in start])
        updates = [
            ops.concatenate([d + u[:1], u[1:]]) for d, u in zip(decayed, updates, strict=True)
        ]

        def combined(earlier: Any, later: Any) -> tuple[list[Tensor], list[Tensor]]:
            (factors, updates), (next_factors, next_updates) = earlier, later
            decayed = self._times(next_factors, updates)
            return self._times(next_factors, factors), [
                d + u for d, u in zip(decayed, next_updates, strict=True)
            ]

        return associative_scan(combined, (factors, updates))[1]


def associative_scan(combined: Callable[[Any, Any], Any], elements: Any) -> Any:
    """All prefixes of an associative operation, along the first axis, of known length."""
    count = tree.flatten(elements)[0].shape[0]
    if count < 2:
        return elements
    earlier = tree.map_structure(lambda x: x[0 : count - 1 : 2], elements)
    later = tree.map_structure(lambda x: x[1::2], elements)
    odd = associative_scan(combined, combined(earlier, later))
    before = tree.map_structure(lambda x: x[: (count - 1) // 2], odd)
    rest = combined(before, tree.map_structure(lambda x: x[2::2], elements))

    def joined(x: Tensor, odd: Tensor, rest: Tensor) -> Tensor:
        even = ops.concatenate([x[:1], rest])  # as many as `odd`, or one more
        pairs = ops.stack([even[: count // 2], odd], axis=1)
        pairs = ops.reshape(pairs, (count // 2 * 2, *ops.shape(pairs)[2:]))
        return ops.concatenate([pairs, even[count // 2 :]]) if count % 2 else pairs

    return tree.map_structure(joined, elements, odd, rest)


def _steps_in_cache(cell: Steppable, call: Call) -> int | None:
    """The number of steps in a segment that stays in the cache; None: there are no segments."""
    rows, steps = call.sequences.shape[:2]
    if call.steps is not None or not isinstance(steps, int):
        return None  # steps of padding may only be at the end of the last segment
    of_step = (rows or 16) * cell.input_part_size  # if it is unknown, a common number of rows
    return max(SEGMENT // of_step, 1) if steps * of_step > LONG else None


def _varying(decay: Tensor | None, update: Tensor) -> Tensor | None:
    """The decay, if it differs between steps."""
    return None if decay is None or len(decay.shape) < len(update.shape) else decay


def _merged(now: list[Tensor | None], decays: list[Tensor | None]) -> list[Tensor | None]:
    """The decays of one step: those that vary, and those that are constant."""
    return [constant if d is None else d for d, constant in zip(now, decays, strict=True)]


def _summed(d: Tensor, of: Tensor) -> Tensor:
    """The gradient of a tensor that was broadcast to the shape of `d`."""
    extra = len(d.shape) - len(of.shape)
    axes = [n for n in range(len(d.shape)) if n < extra or (of.shape[n - extra] == 1)]
    axes = [n for n in axes if n < extra or d.shape[n] != 1]
    if not axes:
        return d
    return ops.reshape(ops.sum(d, axis=axes), ops.shape(of))


def _as_list(tensors: Any) -> list[Tensor]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
