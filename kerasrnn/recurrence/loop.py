"""The entry point of the time loop, and its interface to the cells."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import keras

Tensor = Any
JitCompile = Literal["auto"] | bool


class Dropout(NamedTuple):
    """Dropout masks of one call; None without dropout."""

    inputs: list[Tensor] | None = None
    recurrent: list[Tensor] | None = None


class Call(NamedTuple):
    """The tensors of one call of the loop."""

    sequences: Tensor
    """`(batch, time, features)`"""

    states: list[Tensor]
    """The initial states, each `(batch, ...)`."""

    weights: dict[str, Tensor]
    """The cell's weights by name."""

    memory: dict[str, Tensor]
    """Further inputs of a step, by name, with a batch axis; constant over time."""

    dropout: Dropout
    """The dropout masks drawn for this call."""

    mask: Tensor | None
    """Boolean `(batch, time)`, True at valid steps."""


class Results(NamedTuple):
    """The results of the loop."""

    output: Tensor | None
    """The last output, `(batch, units)`; None with `return_sequences`."""

    outputs: Tensor | None
    """The output of every step, `(batch, time, units)`; None unless `return_sequences`."""

    states: list[Tensor]
    """The final states."""


@dataclass(frozen=True)
class Options:
    """Options of the time loop; part of the cache key of compiled loops."""

    return_sequences: bool = False
    go_backwards: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    training: bool = False
    checkpoint_every: int | Literal["sqrt"] | None = None
    truncate_every: int | None = None


class Steppable(Protocol):
    """The interface of a cell that the loop can run. `kerasrnn.Cell` implements it."""

    output_size: int
    step_weights: tuple[str, ...]
    single_read: bool
    """Whether a step uses each element of `a` once: see `prefetch` of `unroll.Backend.scan`."""

    has_adjoint: bool
    """Whether the cell defines its own gradient: `step_with_residuals`, `step_adjoint` and
    `product_arguments`."""

    def input_part(
        self, x: Tensor, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> Tensor:
        """Compute the part of all steps that does not depend on the state.

        Here and below, `weights` include the memory.
        """

    def recurrent_products(
        self, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[Any, ...]:
        """The `products.RecurrentProduct`s of a step, prepared before the loop."""

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute one step: `(output, new_states)`. It may apply the products any number of times,
        in any order."""

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Compute one step and its residuals for `step_adjoint`: `(output, new_states,
        residuals)`."""

    def step_adjoint(
        self,
        residuals: Any,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)` of one step, given the gradients of its
        results."""

    def product_arguments(self, residuals: Any, states: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of each product, for one step or for all of them at once."""


Substitute = Callable[[Steppable, Options, Call], Results | None]
_substitute: ContextVar[Substitute | None] = ContextVar("_substitute", default=None)


@contextmanager
def replaced_by(substitute: Substitute) -> Iterator[None]:
    """Within this context, run `substitute(cell, options, call)` first; it replaces the loop unless
    it returns None.

    For exports, whose formats have their own recurrent operators.
    """
    token = _substitute.set(substitute)
    try:
        yield
    finally:
        _substitute.reset(token)


def is_replaced() -> bool:
    """Whether the loop may be replaced: see `replaced_by`."""
    return _substitute.get() is not None


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """Run a cell over time.

    The mask rule: at a masked step the states are carried over unchanged, and the output repeats
    the previous one (zeros before the first valid step), or is zeros with `zero_output_for_mask`.
    With `go_backwards`, the steps and the mask are processed from last to first, and the outputs
    are in the order of computation.

    Args:
        cell: defines `input_part`, `recurrent_products` and `step`.
        options: see `Options`.
        call: see `Call`.
        jit_compile: True always compiles the loop with XLA; False never compiles it by itself
            (except on JAX, which has no other loop); with "auto" the backend decides. A loop
            inside a function that XLA compiles is compiled with it.
    """
    substitute = _substitute.get()
    if substitute is not None:
        results = substitute(cell, options, call)
        if results is not None:
            return results
    backend = keras.config.backend()
    room = backend if backend in ("tensorflow", "jax") else "unrolled"
    return importlib.import_module(f"{__package__}.{room}").run(cell, options, call, jit_compile)
