"""The time loop on TensorFlow: a `tf.while_loop` and its adjoint, inside a `tf.function`.

In training the loop has a gradient of its own. Automatic differentiation of a `tf.while_loop`
would add up the gradients of the weights step by step, which is slow, under XLA above all, and
cannot cross the border of a function compiled with XLA. Here the forward loop keeps the states and
the recurrent parts; the backward loop carries the adjoints of the states alone, and differentiates
one step automatically with the recurrent parts held fixed; what the products' weights receive is
one product each, after the loop (docs/bptt.md). In inference nothing is kept.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Dropout, JitCompile, Options, Steppable
from kerasrnn.recurrence.products import RecurrentProduct

Tensor = Any

# A compiled loop belongs to its cell and goes with it: cell -> {(options, jit): tf.function}.
_functions: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def run(
    cell: Steppable,
    options: Options,
    sequences: tf.Tensor,
    states: Sequence[tf.Tensor],
    weights: Mapping[str, tf.Tensor],
    dropout: Dropout,
    mask: tf.Tensor | None,
    jit_compile: JitCompile,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """See `loop.run`. An eager call runs a compiled graph, not a loop driven by Python."""
    tensors = (sequences, list(states), dict(weights), dropout, mask)
    if jit_compile is True or tf.executing_eagerly():
        return _function(cell, options, jit_compile is True)(*tensors)
    return _loop(options)(cell, options, *tensors)


def loop(
    cell: Steppable,
    options: Options,
    sequences: tf.Tensor,
    states: Sequence[tf.Tensor],
    weights: Mapping[str, tf.Tensor],
    dropout: Dropout,
    mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    x = _swap_batch_and_time(sequences)  # (time, batch, features)
    a = cell.input_part(x, weights, dropout.inputs)
    products = cell.recurrent_products(weights, dropout.recurrent)
    step_weights = {name: weights[name] for name in cell.step_weights}
    keeps = None if mask is None else tf.transpose(mask)[:, :, None]  # (time, batch, 1)
    walk = _Walk(cell, options, products, keeps)
    if options.training:
        output, outputs, states = walk.forward_with_adjoint(a, list(states), step_weights)
    else:
        output, outputs, states, _ = walk.forward(a, list(states), step_weights)
    if options.return_sequences:
        return output, _swap_batch_and_time(outputs), states
    return output, output[:, None], states


class _Kept(NamedTuple):
    """What the backward loop needs, each `(time, batch, ...)` in the order of processing."""

    states: list[tf.Tensor]  # before each step
    recurrent_parts: list[tf.Tensor]


class _Tap:
    """A recurrent product in a step: notes its argument; may be given its result."""

    def __init__(self, product: RecurrentProduct, result: tf.Tensor | None = None) -> None:
        self.product, self.result = product, result

    def __call__(self, argument: tf.Tensor) -> tf.Tensor:
        self.argument = argument
        if self.result is None:
            self.result = self.product(argument)
        return self.result


class _Walk:
    """The loop over one batch, forwards and backwards.

    `n` counts the steps in the order of processing, `t` in the order of the sequence.
    """

    def __init__(
        self,
        cell: Steppable,
        options: Options,
        products: Sequence[RecurrentProduct],
        keeps: tf.Tensor | None,
    ) -> None:
        self.cell, self.options, self.products, self.keeps = cell, options, products, keeps

    def forward(
        self,
        a: tf.Tensor,
        states: list[tf.Tensor],
        weights: Mapping[str, tf.Tensor],
        keep_for_adjoint: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor | None, list[tf.Tensor], _Kept | None]:
        """Last output, outputs `(time, batch, units)` or None, final states, what was kept."""
        steps = _steps(a)
        a_array, keep_array = _unstacked(a), _unstacked(self.keeps)
        batch = tf.shape(a)[1]
        zeros = tf.zeros((batch, self.cell.output_size), dtype=a.dtype)
        arrays = {}
        if self.options.return_sequences:
            arrays["outputs"] = _array(steps, zeros)
        if keep_for_adjoint:
            arrays["states"] = [_array(steps, state) for state in states]
            arrays["recurrent_parts"] = [
                tf.TensorArray(a.dtype, size=steps, element_shape=(a.shape[1], p.kernel.shape[1]))
                for p in self.products
            ]

        def body(
            n: tf.Tensor, output: tf.Tensor, states: list[tf.Tensor], arrays: dict[str, Any]
        ) -> tuple[Any, ...]:
            t = self._time(n, steps)
            taps = tuple(_Tap(product) for product in self.products)
            output_n, states_n = self.cell.step(a_array.read(t), states, weights, taps)
            arrays = dict(arrays)
            if keep_for_adjoint:
                arrays["states"] = _write(arrays["states"], n, states)
                arrays["recurrent_parts"] = _write(
                    arrays["recurrent_parts"], n, [tap.result for tap in taps]
                )
            if self.keeps is not None:
                keep = keep_array.read(t)
                held = zeros if self.options.zero_output_for_mask else output
                output_n = tf.where(keep, output_n, held)
                states_n = [
                    tf.where(keep, new, old) for new, old in zip(states_n, states, strict=True)
                ]
            if self.options.return_sequences:
                arrays["outputs"] = arrays["outputs"].write(n, output_n)
            return n + 1, output_n, list(states_n), arrays

        _, output, states, arrays = tf.while_loop(
            cond=lambda n, *_: n < steps,
            body=body,
            loop_vars=(tf.constant(0), zeros, states, arrays),
            maximum_iterations=steps,  # XLA's automatic differentiation needs a bound
        )
        kept = None
        if keep_for_adjoint:
            kept = _Kept(_stacked(arrays["states"]), _stacked(arrays["recurrent_parts"]))
        outputs = arrays["outputs"].stack() if self.options.return_sequences else None
        return output, outputs, states, kept

    def forward_with_adjoint(
        self, a: tf.Tensor, states: list[tf.Tensor], weights: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor | None, list[tf.Tensor]]:
        """`forward`, with `backward` as its gradient."""
        # A gradient reaches what is an argument: the products' weights are, though `forward`
        # reads them through the products.
        arguments = (
            a,
            states,
            list(weights.values()),
            [(p.kernel, *([] if p.bias is None else [p.bias])) for p in self.products],
        )

        @tf.custom_gradient
        def call(*flat: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
            a, states, values, _ = tf.nest.pack_sequence_as(arguments, list(flat))
            named = dict(zip(weights, values, strict=True))
            output, outputs, finals, kept = self.forward(a, states, named, keep_for_adjoint=True)
            results = [output, outputs, finals] if outputs is not None else [output, finals]

            def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
                d_output, *d_outputs, d_finals = tf.nest.pack_sequence_as(results, list(upstream))
                d_arguments = self.backward(
                    a, named, kept, d_output, d_outputs[0] if d_outputs else None, d_finals
                )
                return tf.nest.flatten(d_arguments)

            return tf.nest.flatten(results), gradient

        flat = call(*tf.nest.flatten(arguments))
        if self.options.return_sequences:
            output, outputs, *finals = flat
            return output, outputs, finals
        output, *finals = flat
        return output, None, finals

    def backward(
        self,
        a: tf.Tensor,
        weights: Mapping[str, tf.Tensor],
        kept: _Kept,
        d_output: tf.Tensor,
        d_outputs: tf.Tensor | None,
        d_states: list[tf.Tensor],
    ) -> tuple[Any, ...]:
        """The gradients of a, of the initial states, of the weights and of the products' weights.

        Args:
            a: the input parts.
            weights: what the step reads besides.
            kept: what `forward` kept.
            d_output: dL/d(last output).
            d_outputs: dL/d(outputs), if there are any.
            d_states: dL/d(final states).
        """
        steps = _steps(a)
        a_array, keep_array = _unstacked(a), _unstacked(self.keeps)
        d_outputs_array = _unstacked(d_outputs)
        states_arrays = [_unstacked(s) for s in kept.states]
        r_arrays = [_unstacked(r) for r in kept.recurrent_parts]
        arrays = {
            "d_a": _array(steps, a[0]),
            "arguments": [
                tf.TensorArray(
                    a.dtype, size=steps, element_shape=(a.shape[1], product.kernel.shape[0])
                )
                for product in self.products
            ],
            "d_recurrent_parts": [_array(steps, r[0]) for r in kept.recurrent_parts],
        }
        d_weights = {name: tf.zeros_like(value) for name, value in weights.items()}

        def body(
            n: tf.Tensor,
            d_output: tf.Tensor,
            d_states: list[tf.Tensor],
            d_weights: dict[str, tf.Tensor],
            arrays: dict[str, Any],
        ) -> tuple[Any, ...]:
            t = self._time(n, steps)
            if d_outputs_array is not None:
                d_output = d_output + d_outputs_array.read(n)
            around = [None] * len(d_states)
            d_held = tf.zeros_like(d_output)
            if self.keeps is not None:
                # A masked step sends everything around the cell, nothing through it.
                keep = keep_array.read(t)
                around = [tf.where(keep, tf.zeros_like(d), d) for d in d_states]
                d_states = [tf.where(keep, d, tf.zeros_like(d)) for d in d_states]
                if not self.options.zero_output_for_mask:
                    d_held = tf.where(keep, tf.zeros_like(d_output), d_output)
                d_output = tf.where(keep, d_output, tf.zeros_like(d_output))
            step = self._step_adjoint(
                a_array.read(t),
                [array.read(n) for array in states_arrays],
                weights,
                [array.read(n) for array in r_arrays],
                d_output,
                d_states,
            )
            d_states = [
                through if passed is None else through + passed
                for through, passed in zip(step.d_states, around, strict=True)
            ]
            d_weights = {name: d + step.d_weights[name] for name, d in d_weights.items()}
            arrays = {
                "d_a": arrays["d_a"].write(t, step.d_a),
                "arguments": _write(arrays["arguments"], n, step.arguments),
                "d_recurrent_parts": _write(arrays["d_recurrent_parts"], n, step.d_results),
            }
            return n - 1, d_held, d_states, d_weights, arrays

        _, _, d_states, d_weights, arrays = tf.while_loop(
            cond=lambda n, *_: n >= 0,
            body=body,
            loop_vars=(steps - 1, d_output, list(d_states), d_weights, arrays),
            maximum_iterations=steps,
        )
        d_products = []
        for product, v, d_r in zip(
            self.products,
            _stacked(arrays["arguments"]),
            _stacked(arrays["d_recurrent_parts"]),
            strict=True,
        ):
            d_kernel, d_bias = product.weight_gradients(v, d_r)
            d_products.append((d_kernel,) if d_bias is None else (d_kernel, d_bias))
        return arrays["d_a"].stack(), d_states, list(d_weights.values()), d_products

    def _step_adjoint(
        self,
        a: tf.Tensor,
        states: list[tf.Tensor],
        weights: Mapping[str, tf.Tensor],
        recurrent_parts: list[tf.Tensor],
        d_output: tf.Tensor,
        d_states: list[tf.Tensor],
    ) -> "_StepAdjoint":
        """One step's adjoint: pointwise by automatic differentiation, the products by their own."""
        taps = tuple(_Tap(p, r) for p, r in zip(self.products, recurrent_parts, strict=True))
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([a, states, dict(weights), recurrent_parts])
            output, new_states = self.cell.step(a, states, weights, taps)
        targets, d_targets = [output, *new_states], [d_output, *d_states]
        d_results = []
        # From the last product to the first: what one receives depends on those after it, whose
        # arguments may hold its result.
        for tap in reversed(taps):
            d_result = tape.gradient(
                targets, tap.result, d_targets, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            targets.append(tap.argument)
            d_targets.append(tap.product.adjoint(d_result))
            d_results.insert(0, d_result)
        d_a, d_states, d_weights = tape.gradient(
            targets,
            [a, states, dict(weights)],
            d_targets,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return _StepAdjoint(d_a, d_states, d_weights, [tap.argument for tap in taps], d_results)

    def _time(self, n: tf.Tensor, steps: tf.Tensor | int) -> tf.Tensor:
        return steps - 1 - n if self.options.go_backwards else n


class _StepAdjoint(NamedTuple):
    d_a: tf.Tensor
    d_states: list[tf.Tensor]
    d_weights: dict[str, tf.Tensor]
    arguments: list[tf.Tensor]  # of the products
    d_results: list[tf.Tensor]  # of the products


def _steps(a: tf.Tensor) -> tf.Tensor | int:
    return tf.shape(a)[0] if a.shape[0] is None else a.shape[0]


# TensorArrays, not slices of one tensor: where the loop is differentiated automatically, the
# gradient of a slice is a full-size tensor of zeros a step, and the backward pass would grow with
# the square of the steps.


def _unstacked(x: tf.Tensor | None) -> tf.TensorArray | None:
    if x is None:
        return None
    return tf.TensorArray(x.dtype, size=_steps(x), element_shape=x.shape[1:]).unstack(x)


def _array(steps: tf.Tensor | int, like: tf.Tensor) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, size=steps, element_shape=like.shape)


def _write(
    arrays: list[tf.TensorArray], n: tf.Tensor, values: Sequence[tf.Tensor]
) -> list[tf.TensorArray]:
    return [array.write(n, value) for array, value in zip(arrays, values, strict=True)]


def _stacked(arrays: list[tf.TensorArray]) -> list[tf.Tensor]:
    return [array.stack() for array in arrays]


def _loop(options: Options) -> Callable[..., Any]:
    return unrolled.loop if options.unroll else loop


def _function(cell: Steppable, options: Options, jit_compile: bool) -> Callable[..., Any]:
    functions = _functions.setdefault(cell, {})
    if jit_compile and not options.unroll:
        # Compiled with XLA, what automatic differentiation keeps cannot leave the function.
        options = dataclasses.replace(options, training=True)
    key = (options, jit_compile)
    if key not in functions:
        # A strong reference would keep the cell alive for ever. A partial, and not a closure,
        # since TensorFlow takes closures of one piece of code for one function, and would warn
        # that it is traced too often.
        call = functools.partial(_call, weakref.ref(cell), options)
        functions[key] = tf.function(
            call, jit_compile=jit_compile or None, autograph=False, reduce_retracing=True
        )
    return functions[key]


def _call(owner: weakref.ref, options: Options, *tensors: Any) -> Any:
    return _loop(options)(owner(), options, *tensors)


def _swap_batch_and_time(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
