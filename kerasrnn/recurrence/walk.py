"""A cell's walk over time, forward and back: the one algorithm behind every backend's loop.

Written with `keras.ops` and what a backend brings in `Backend`: a scan, a derivative, and a way to
say what the gradient of a function is. The names are those of docs/bptt.md; `d_v` is dL/dv.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import keras
from keras import ops, tree

from kerasrnn.recurrence.loop import Call, Options, Results, Steppable

Tensor = Any


class Backend(Protocol):
    """What the walk asks of a backend."""

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        xs: Any,
        reverse: bool = False,
        ahead: bool = True,
    ) -> tuple[Any, Any]:
        """`carry, y[t] = body(carry, x[t])` for every t; x and y have time as their first axis.

        `ahead` says how x is to be read where that matters for speed: a step ahead, as a whole, or
        as part of what is computed from it, which is faster where each of its elements is used
        once, and slower by far where one is used more often (benchmarks/NOTES.md).
        """

    def derivative(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
        """The function's results, and what takes their gradients (None: zero) to the arguments'."""


class Kept(NamedTuple):
    """What the way forward keeps for the way back, each `(time, batch, ...)`."""

    states: list[Tensor]  # before each step
    steps: Any  # of each step; see `_Automatic` and `_ByHand`


class Carry(NamedTuple):
    """What a step hands to the next; on the way back, its gradients."""

    output: Tensor | None  # None where no step and no result needs it
    states: list[Tensor]


class _StepAdjoint(NamedTuple):
    d_a: Tensor
    d_states: list[Tensor]
    d_weights: dict[str, Tensor]
    d_results: list[Tensor]  # of the products


class _Tap:
    """A recurrent product in a step: notes its argument; may be given its result."""

    def __init__(self, product: Any, result: Tensor | None = None) -> None:
        self.product, self.result = product, result

    def __call__(self, argument: Tensor) -> Tensor:
        self.argument = argument
        if self.result is None:
            self.result = self.product(argument)
        return self.result


class _ByHand:
    """One step and its adjoint as the cell derives it: `step_keeping` and `step_adjoint`."""

    def __init__(self, walk: "Walk") -> None:
        self.walk = walk

    def forward(self, a: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor], Any]:
        return self.walk.cell.step_keeping(a, states, self.walk.step_weights, self.walk.products)

    def needs_input_part(self) -> bool:
        return False

    def backward(
        self, a: None, states: list[Tensor], kept: Any, d_output: Tensor, d_states: list[Tensor]
    ) -> _StepAdjoint:
        return _StepAdjoint(
            *self.walk.cell.step_adjoint(
                kept, states, self.walk.step_weights, self.walk.products, d_output, d_states
            )
        )

    def arguments(self, states: list[Tensor], kept: Any) -> list[Tensor]:
        return self.walk.cell.product_arguments(kept, states)


class _Automatic:
    """One step, differentiated automatically with its products taken out.

    It keeps each product's result, and its argument unless that is the first state.
    """

    def __init__(self, walk: "Walk") -> None:
        self.walk = walk

    def forward(self, a: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor], Any]:
        taps = [_Tap(product) for product in self.walk.products]
        output, new = self.walk.cell.step(a, states, self.walk.step_weights, tuple(taps))
        arguments = [None if tap.argument is states[0] else tap.argument for tap in taps]
        return output, list(new), ([tap.result for tap in taps], arguments)

    def needs_input_part(self) -> bool:
        return True

    def backward(
        self, a: Tensor, states: list[Tensor], kept: Any, d_output: Tensor, d_states: list[Tensor]
    ) -> _StepAdjoint:
        results, _ = kept
        products = self.walk.products

        def step(
            a: Tensor, states: list[Tensor], weights: dict[str, Tensor], results: list[Tensor]
        ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
            taps = [_Tap(p, r) for p, r in zip(products, results, strict=True)]
            output, new = self.walk.cell.step(a, states, weights, tuple(taps))
            return output, list(new), [tap.argument for tap in taps]

        _, pull = self.walk.backend.derivative(
            step, (a, states, dict(self.walk.step_weights), results)
        )
        d_arguments: list[Tensor | None] = [None] * len(products)
        # From the last product to the first: what one receives depends on those after it, whose
        # arguments may hold its result.
        for k in reversed(range(len(products))):
            d_result = pull((d_output, d_states, d_arguments))[3][k]
            d_arguments[k] = products[k].adjoint(d_result)
        return _StepAdjoint(*pull((d_output, d_states, d_arguments)))

    def arguments(self, states: list[Tensor], kept: Any) -> list[Tensor]:
        return [states[0] if argument is None else argument for argument in kept[1]]


class Walk:
    """One call of the loop: everything that does not change over time, laid out once.

    The states are carried in `state_dtype`: float32 where the compute dtype is half precision,
    since errors of a carried state add up over the steps. Products are in the compute dtype.
    """

    def __init__(self, backend: Backend, cell: Steppable, options: Options, call: Call) -> None:
        self.backend, self.cell, self.options = backend, cell, options
        # To a step, a memory is as constant as its weights.
        self.weights, self.memory = {**call.weights, **call.memory}, tuple(call.memory)
        self.dropout = call.dropout
        self.compute_dtype = keras.backend.standardize_dtype(call.sequences.dtype)
        half = self.compute_dtype in ("float16", "bfloat16")
        self.state_dtype = "float32" if half else self.compute_dtype
        self.products, self.step_weights = self._prepare(self.weights)
        self.step = (_ByHand if cell.has_adjoint else _Automatic)(self)
        self.x, self.keeps = self._in_order(call.sequences), None
        if call.mask is not None:
            self.keeps = ops.expand_dims(self._in_order(call.mask), -1)  # (time, batch, 1)
        self.zeros = ops.zeros(
            (ops.shape(call.sequences)[0], cell.output_size), dtype=self.state_dtype
        )
        # Only a last output, or one that masked steps repeat, goes from step to step.
        self.carries_output = self._holds() or not options.return_sequences
        self.start = Carry(
            self.zeros if self.carries_output else None,
            [ops.cast(s, self.state_dtype) for s in call.states],
        )

    def forward(self) -> Results:
        """Nothing is kept; a gradient is the framework's own, by automatic differentiation."""
        end, outputs, _ = self._segment(self.x, self.keeps, self._borders(self.x), self.start)
        return self._results(end, outputs)

    def forward_keeping(self) -> tuple[Results, Any]:
        """The same results, and what `backward` needs."""
        if not self._checkpoints():
            end, outputs, kept = self._segment(
                self.x, self.keeps, self._borders(self.x), self.start, keeping=True
            )
            return self._results(end, outputs), kept
        segments = _Segments(self.options.checkpoint_every, self.x)
        whole, rest = segments.cut((self.x, self.keeps, self._borders(self.x)))

        def body(carry: Carry, xs: Any) -> tuple[Carry, Any]:
            end, outputs, _ = self._segment(*xs, carry)
            return end, (carry, outputs)

        middle, (starts, outputs) = self.backend.scan(body, self.start, whole)
        middle = segments.if_any(middle, self.start)
        end, last_outputs, _ = self._segment(*rest, middle)
        if outputs is not None:
            outputs = segments.joined(outputs, last_outputs)
        return self._results(end, outputs), (starts, middle)

    def backward(self, kept: Any, d_results: Results) -> tuple[Tensor, list[Tensor], dict, dict]:
        """The gradients of the sequences, the initial states, the weights and the memory."""
        d_output = None
        if d_results.output is not None:
            d_output = ops.cast(d_results.output, self.state_dtype)
        elif self._holds():
            d_output = ops.zeros_like(self.zeros)
        d_carry = Carry(d_output, [ops.cast(d, self.state_dtype) for d in d_results.states])
        d_outputs = None
        if d_results.outputs is not None:
            d_outputs = ops.swapaxes(d_results.outputs, 0, 1)
        xs = (self.x, self.keeps, self._borders(self.x), d_outputs)
        if not self._checkpoints():
            d_carry, d_x, d_weights = self._segment_adjoint(*xs, kept, d_carry)
        else:
            d_carry, d_x, d_weights = self._checkpointed_adjoint(xs, kept, d_carry)
        d_sequences = ops.swapaxes(ops.flip(d_x, 0) if self.options.go_backwards else d_x, 0, 1)
        d_states = [ops.cast(d, self.compute_dtype) for d in d_carry.states]
        d_memory = {name: d_weights.pop(name) for name in self.memory}
        return d_sequences, d_states, d_weights, d_memory

    def _checkpointed_adjoint(
        self, xs: tuple[Any, ...], kept: Any, d_carry: Carry
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        """Each segment is walked again from its start, and then back."""
        starts, middle = kept
        segments = _Segments(self.options.checkpoint_every, self.x)
        whole, rest = segments.cut(xs)

        def segment(xs: tuple[Any, ...], start: Carry, d_carry: Carry) -> Any:
            x, keeps, borders, d_outputs = xs
            _, _, kept = self._segment(x, keeps, borders, start, keeping=True)
            return self._segment_adjoint(x, keeps, borders, d_outputs, kept, d_carry)

        d_carry, d_rest, d_weights = segment(rest, middle, d_carry)
        of_rest = d_carry, d_weights

        def body(carry: Any, xs: Any) -> Any:
            d_carry, d_weights = carry
            d_carry, d_x, more = segment(*xs, d_carry)
            return (d_carry, {name: d + more[name] for name, d in d_weights.items()}), d_x

        of_all, d_whole = self.backend.scan(body, of_rest, (whole, starts), reverse=True)
        d_carry, d_weights = segments.if_any(of_all, of_rest)
        return d_carry, segments.joined(d_whole, d_rest), d_weights

    def _prepare(self, weights: Mapping[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Tensor]]:
        products = self.cell.recurrent_products(weights, self.dropout.recurrent)
        step_weights = {
            name: ops.cast(weights[name], self.state_dtype) for name in self.cell.step_weights
        }
        return products, step_weights

    def _segment(
        self,
        x: Tensor,
        keeps: Tensor | None,
        borders: Tensor | None,
        start: Carry,
        keeping: bool = False,
    ) -> tuple[Carry, Tensor | None, Kept | None]:
        """Some steps: where they end, the outputs, and what is kept."""
        a = self.cell.input_part(x, self.weights, self.dropout.inputs)

        def body(carry: Carry, xs: tuple[Any, ...]) -> tuple[Carry, Any]:
            output, states = carry
            a, keep, border = xs
            if border is not None:
                states = [ops.where(border, ops.stop_gradient(s), s) for s in states]
            a = ops.cast(a, self.state_dtype)
            if keeping:
                new_output, new, kept = self.step.forward(a, states)
                kept = Kept(states, kept)
            else:
                new_output, new = self.cell.step(a, states, self.step_weights, self.products)
                kept = None
            # Keras computes some operations on float64 in float32 on JAX; a scan keeps its types.
            new_output = ops.cast(new_output, self.state_dtype)
            new = [ops.cast(s, self.state_dtype) for s in new]
            if keep is not None:
                held = self.zeros if self.options.zero_output_for_mask else output
                new_output = ops.where(keep, new_output, held)
                new = [ops.where(keep, s, old) for s, old in zip(new, states, strict=True)]
            outputs = None
            if self.options.return_sequences:
                outputs = ops.cast(new_output, self.compute_dtype)
            return Carry(new_output if self.carries_output else None, new), (outputs, kept)

        end, (outputs, kept) = self.backend.scan(
            body, start, (a, keeps, borders), ahead=not self.cell.reads_once
        )
        return end, outputs, kept

    def _segment_adjoint(
        self,
        x: Tensor,
        keeps: Tensor | None,
        borders: Tensor | None,
        d_outputs: Tensor | None,
        kept: Kept,
        d_end: Carry,
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        """The gradients of where the steps began, of x, and of the weights."""

        def outside(x: Tensor, weights: dict[str, Tensor]) -> Any:
            products, step_weights = self._prepare(weights)
            return (
                self.cell.input_part(x, weights, self.dropout.inputs),
                [(p.kernel, p.bias) for p in products],
                step_weights,
            )

        (a, _, _), pull = self.backend.derivative(outside, (x, dict(self.weights)))

        def body(carry: Any, xs: tuple[Any, ...]) -> tuple[Any, Any]:
            (d_output, d_states), d_weights = carry
            a, keep, border, d_outputs, kept = xs
            if d_outputs is not None:
                d_outputs = ops.cast(d_outputs, self.state_dtype)
                d_output = d_outputs if d_output is None else d_output + d_outputs
            d_held = None if d_end.output is None else ops.zeros_like(d_output)
            if keep is not None:
                # A masked step sends everything around the cell, nothing through it.
                around = [ops.where(keep, ops.zeros_like(d), d) for d in d_states]
                d_states = [ops.where(keep, d, ops.zeros_like(d)) for d in d_states]
                if self._holds():
                    d_held = ops.where(keep, d_held, d_output)
                d_output = ops.where(keep, d_output, ops.zeros_like(d_output))
            step = self.step.backward(
                None if a is None else ops.cast(a, self.state_dtype),
                kept.states,
                kept.steps,
                d_output,
                d_states,
            )
            d_states = [ops.cast(d, self.state_dtype) for d in step.d_states]
            if keep is not None:
                d_states = [d + passed for d, passed in zip(d_states, around, strict=True)]
            if border is not None:
                d_states = [ops.where(border, ops.zeros_like(d), d) for d in d_states]
            d_weights = {name: d + step.d_weights[name] for name, d in d_weights.items()}
            # Where a gate adds its two parts, as most do, their gradients are one tensor.
            d_results = [None if d is step.d_a else d for d in step.d_results]
            return (Carry(d_held, d_states), d_weights), (step.d_a, d_results)

        no_weights = {name: ops.zeros_like(w) for name, w in self.step_weights.items()}
        (d_start, d_weights), (d_a, d_results) = self.backend.scan(
            body,
            (d_end, no_weights),
            (a if self.step.needs_input_part() else None, keeps, borders, d_outputs, kept),
            reverse=True,
        )
        d_products = [
            product.weight_gradients(v, d_a if d is None else d)
            for product, v, d in zip(
                self.products,
                self.step.arguments(kept.states, kept.steps),
                d_results,
                strict=True,
            )
        ]
        d_x, d_weights = pull((ops.cast(d_a, a.dtype), d_products, d_weights))
        return d_start, d_x, d_weights

    def _in_order(self, x: Tensor) -> Tensor:
        """`(batch, time, ...)` to `(time, batch, ...)`, in the order of the steps."""
        x = ops.swapaxes(x, 0, 1)
        return ops.flip(x, 0) if self.options.go_backwards else x

    def _borders(self, x: Tensor) -> Tensor | None:
        """Where the gradient of the states is cut: before every `truncate_every`-th step."""
        if self.options.truncate_every is None:
            return None
        steps = ops.arange(ops.shape(x)[0])
        return ops.logical_and(steps > 0, steps % self.options.truncate_every == 0)

    def _holds(self) -> bool:
        """Whether a masked step repeats the output before it."""
        return self.keeps is not None and not self.options.zero_output_for_mask

    def _checkpoints(self) -> bool:
        """Whether there is more than one segment, as far as is known."""
        length, steps = self.options.checkpoint_every, self.x.shape[0]
        return length is not None and (steps is None or steps > _length(length, steps))

    def _results(self, end: Carry, outputs: Tensor | None) -> Results:
        return Results(
            None if self.options.return_sequences else ops.cast(end.output, self.compute_dtype),
            ops.swapaxes(outputs, 0, 1) if self.options.return_sequences else None,
            [ops.cast(state, self.compute_dtype) for state in end.states],
        )


class _Segments:
    """A sequence cut into segments of one length, and the steps that are left, at least one.

    The last segment is not stacked with the others, since it may be shorter. Where the number of
    steps is not known when the graph is made, there may be no whole segment. A loop needs at least
    one (TensorFlow cannot stack an empty list of tensors of unknown shape, and XLA cannot read from
    an empty array), so the first step is then walked as a segment, and its results are dropped.
    """

    def __init__(self, checkpoint_every: int | str, x: Tensor) -> None:
        steps = ops.shape(x)[0]
        length = _length(checkpoint_every, steps)
        whole = (steps - 1) // length  # 0 only if the number of steps is unknown
        self.stacked = whole * length
        self.known = isinstance(whole, int)
        if not self.known:
            self.any = whole > 0
            length, whole = ops.where(self.any, length, 1), ops.maximum(whole, 1)
        self.length, self.count = length, whole

    def cut(self, xs: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """All whole segments, `(segments, steps, ...)`, and the steps that are left."""

        def stack(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            shape = (self.count, self.length, *ops.shape(x)[1:])
            return ops.reshape(x[: self.count * self.length], shape)

        def rest(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[self.stacked :]

        return tuple(map(stack, xs)), tuple(map(rest, xs))

    def joined(self, whole: Tensor, rest: Tensor) -> Tensor:
        """The steps of both in one, `(steps, ...)`."""
        whole = ops.reshape(whole, (self.count * self.length, *ops.shape(whole)[2:]))
        return ops.concatenate([whole if self.known else whole[: self.stacked], rest])

    def if_any(self, after: Any, before: Any) -> Any:
        """What the whole segments led to; what there was before if there are none."""
        if self.known:
            return after
        return tree.map_structure(
            lambda a, b: None if a is None else ops.where(self.any, a, b), after, before
        )


def _length(checkpoint_every: int | str, steps: Any) -> Any:
    """Of a segment: the square root of the steps, rounded up, with "sqrt"."""
    if checkpoint_every != "sqrt":
        return checkpoint_every
    if isinstance(steps, int):
        return math.isqrt(max(steps - 1, 0)) + 1
    return ops.cast(ops.ceil(ops.sqrt(ops.cast(steps, "float32"))), "int32")
