"""One step of a cell, forward and backward, as the time loop runs it in training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops, tree

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.checks import check_adjoint, check_returned
from kerasrnn.recurrence.loop import Steppable, Weights
from kerasrnn.recurrence.products import Product

Tensor = Any


@dataclass
class PreparedCell:
    """A cell and everything that its steps share in one call."""

    backend: Backend
    cell: Steppable
    cell_weights: Callable[[Any, Any, dict[str, Any]], Weights]
    """The weights passed to the cell, from weights, memory and the noise of a step."""

    products: tuple[Product, ...]
    weights: dict[str, Any]
    """The weights that a step uses directly."""

    memory: dict[str, Tensor]
    """The parts of the memory that a step uses directly."""

    applications: list[int] | None = None
    """How often each product was applied when a step was first traced; see `RecordedStep`."""

    def weights_of_step(self, noise: dict[str, Any]) -> Weights:
        """The weights passed to a step."""
        return self.cell_weights(self.weights, self.memory, noise)


class StepAdjoint(NamedTuple):
    """The gradients of one step."""

    d_a: Tensor
    d_states: list[Any]
    d_weights: dict[str, Any]
    d_memory: dict[str, Tensor]
    d_results: list[list[Tensor]]  # of each product's applications


class RecordedStep:
    """The products of one step, and a record of their applications.

    A step may apply a product any number of times, and the products in any order: the record
    follows Python's execution while the step is traced. It is differentiated in reverse.
    """

    def __init__(self, prepared: PreparedCell, results: list[list[Tensor]] | None = None) -> None:
        """With `results`, the products are not computed: these are their results."""
        self.products = tuple(_RecordedProduct(self, k) for k in range(len(prepared.products)))
        self.cell, self.prepared, self.known_results = prepared.cell, prepared, results
        self.arguments: list[list[Tensor]] = [[] for _ in prepared.products]
        self.results: list[list[Tensor]] = [[] for _ in prepared.products]
        self.order: list[tuple[int, int]] = []  # (product, index of the application)

    def __call__(self, a: Tensor, states: list[Any], weights: Weights) -> tuple[Tensor, list[Any]]:
        self.scope, self.batch = self.prepared.backend.scope(), a.shape[0]
        returned = self.cell.step(a, states, weights, self.products)
        check_returned(self.cell, returned)
        self._check_repeated()
        output, new = returned
        return output, list(new)

    def apply(self, k: int, argument: Tensor) -> Tensor:
        if self.prepared.backend.scope() != self.scope:
            raise self._error(
                k,
                "is applied inside a loop, a branch or a function of the backend "
                "(ops.while_loop, ops.cond, tf.function, jax.jit); expected Python's for or if",
            )
        shape, rank = tuple(argument.shape), self.prepared.products[k].rank
        unknown = None in (*shape[:1], self.batch)
        if len(shape) != rank or not (unknown or shape[0] == self.batch):
            axes = "(batch, width)" if rank == 2 else f"{rank} axes, (batch, ...)"
            raise self._error(k, f"is applied to an argument of shape {shape}; expected {axes}")
        nth = len(self.results[k])
        if self.known_results is None:
            result = self.prepared.products[k](argument)
        elif nth < len(self.known_results[k]):
            result = self.known_results[k][nth]
        else:
            raise self._changed(k, len(self.known_results[k]), "more")
        self.arguments[k].append(argument)
        self.results[k].append(result)
        self.order.append((k, nth))
        return result

    def _check_repeated(self) -> None:
        """A step is traced several times, and must apply its products in the same way each time."""
        counts = [len(results) for results in self.results]
        if self.known_results is None:
            before, self.prepared.applications = self.prepared.applications, counts
        else:
            before = [len(results) for results in self.known_results]
        for k, (now, then) in enumerate(zip(counts, before or counts, strict=True)):
            if now != then:
                raise self._changed(k, then, now)

    def _changed(self, k: int, then: int, now: int | str) -> ValueError:
        return self._error(
            k,
            f"was applied {then} times when the step was first traced, and {now} times when it was "
            "traced again; expected a step that depends only on its arguments and the cell's "
            "configuration",
        )

    def _error(self, k: int, what: str) -> ValueError:
        count = len(self.products)
        return ValueError(f"{type(self.cell).__name__}.step: products[{k}] (of {count}) {what}.")


class _RecordedProduct:
    """A product as passed to a step in training."""

    def __init__(self, step: RecordedStep, k: int) -> None:
        self._step, self._k = step, k

    def __call__(self, v: Tensor) -> Tensor:
        return self._step.apply(self._k, ops.convert_to_tensor(v))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._step._error(
            self._k,
            f"was accessed for its attribute {name!r}; expected only calls (list the weights that "
            "a step uses directly in `step_weights`)",
        )


class ManualStep:
    """One step and the cell's own `adjoint`, in which each product is applied once."""

    def __init__(self, prepared: PreparedCell) -> None:
        self.prepared, self.adjoint = prepared, prepared.cell.adjoint()

    def forward(
        self, a: Tensor, states: list[Any], noise: dict[str, Any]
    ) -> tuple[Tensor, list[Any], Any]:
        prepared = self.prepared
        returned = self.adjoint.step_with_residuals(
            a, states, prepared.weights_of_step(noise), prepared.products
        )
        check_returned(prepared.cell, returned, count=3)
        return returned

    def needs_input_part(self) -> bool:
        return False

    def backward(
        self,
        a: None,
        states: list[Any],
        noise: dict[str, Any],
        residuals: Any,
        d_output: Tensor,
        d_states: list[Any],
    ) -> StepAdjoint:
        prepared = self.prepared
        d_a, d_states, d_weights, d_results = self.adjoint.step_adjoint(
            residuals,
            states,
            prepared.weights_of_step(noise),
            prepared.products,
            d_output,
            d_states,
        )
        return StepAdjoint(d_a, d_states, d_weights, {}, [[d] for d in d_results])

    def arguments(self, states: list[Any], residuals: Any) -> list[list[Tensor]]:
        return [[v] for v in self.adjoint.product_arguments(residuals, states)]


class AutomaticStep:
    """One step, differentiated automatically except for its products.

    It stores the result of each application of a product, and its argument unless that is a state.
    """

    def __init__(self, prepared: PreparedCell) -> None:
        self.prepared = prepared
        self.indices: list[list[int | None]] = []  # of each argument that is a state

    def forward(
        self, a: Tensor, states: list[Any], noise: dict[str, Any]
    ) -> tuple[Tensor, list[Any], Any]:
        step = RecordedStep(self.prepared)
        output, new = step(a, states, self.prepared.weights_of_step(noise))
        arguments = [
            [None if index is not None else v for v, index in zip(of, indices, strict=True)]
            for of, indices in zip(step.arguments, _indices(step, states), strict=True)
        ]
        return output, new, (step.results, arguments)

    def needs_input_part(self) -> bool:
        return True

    def backward(
        self,
        a: Tensor,
        states: list[Any],
        noise: dict[str, Any],
        residuals: Any,
        d_output: Tensor,
        d_states: list[Any],
    ) -> StepAdjoint:
        results, _ = residuals
        order: list[tuple[int, int]] = []

        def step(
            a: Tensor,
            states: list[Any],
            weights: dict[str, Any],
            memory: dict[str, Tensor],
            results: list[list[Tensor]],
        ) -> tuple[Tensor, list[Any], list[list[Tensor]]]:
            step = RecordedStep(self.prepared, results)
            output, new = step(a, states, self.prepared.cell_weights(weights, memory, noise))
            # Found again, since the backward pass may be another function than the forward pass.
            order[:], self.indices = step.order, _indices(step, states)
            return output, new, step.arguments

        constants = self.prepared.weights, self.prepared.memory
        (_, _, arguments), vjp_fn = self.prepared.backend.vjp(
            step, (a, states, *constants, results)
        )
        d_arguments: list[list[Tensor | None]] = [[None for _ in of] for of in results]
        # In reverse: the gradient of an application depends on later ones, whose arguments may
        # contain its result.
        for k, nth in reversed(order):
            d_result = vjp_fn((d_output, d_states, d_arguments))[-1][k][nth]
            d_v = self.prepared.products[k].adjoint(d_result)
            check_adjoint(self.prepared.cell, k, d_v, arguments[k][nth])
            d_arguments[k][nth] = d_v
        return StepAdjoint(*vjp_fn((d_output, d_states, d_arguments)))

    def arguments(self, states: list[Any], residuals: Any) -> list[list[Tensor]]:
        flat = tree.flatten(states)
        return [
            [v if index is None else flat[index] for v, index in zip(of, indices, strict=True)]
            for of, indices in zip(residuals[1], self.indices, strict=True)
        ]


def _indices(step: RecordedStep, states: list[Any]) -> list[list[int | None]]:
    """For each argument of each product, which of the states it is, if any."""
    flat = tree.flatten(states)
    return [
        [next((n for n, state in enumerate(flat) if v is state), None) for v in of]
        for of in step.arguments
    ]
