"""The door to the time loop, and the protocol between it and the cells."""

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
    """Dropout masks of one call; None where nothing is dropped."""

    inputs: list[Tensor] | None = None
    recurrent: list[Tensor] | None = None


class Call(NamedTuple):
    """The tensors of one call."""

    sequences: Tensor
    """`(batch, time, features)`"""

    states: list[Tensor]
    """The initial states, each `(batch, ...)`."""

    weights: dict[str, Tensor]
    """The cell's weights by name."""

    memory: dict[str, Tensor]
    """What a step reads besides, by name: it has a batch axis, and does not change over time."""

    dropout: Dropout
    """The dropout masks drawn for this call."""

    mask: Tensor | None
    """Boolean `(batch, time)`, True where the step counts."""


class Results(NamedTuple):
    """What comes out."""

    output: Tensor | None
    """The last output, `(batch, units)`; None with `return_sequences`."""

    outputs: Tensor | None
    """Every step's, `(batch, time, units)`; None unless `return_sequences`."""

    states: list[Tensor]
    """The final states."""


@dataclass(frozen=True)
class Options:
    """What a time loop does besides stepping; part of the key under which a loop is compiled."""

    return_sequences: bool = False
    go_backwards: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    training: bool = False
    checkpoint_every: int | Literal["sqrt"] | None = None
    truncate_every: int | None = None


class Steppable(Protocol):
    """What the loop asks of a cell. `kerasrnn.Cell` is one."""

    output_size: int
    step_weights: tuple[str, ...]
    single_read: bool
    """Whether a step uses each element of its a once: see `prefetch` of `unroll.Backend.scan`."""

    has_adjoint: bool
    """Whether the cell derives its gradient itself: `step_with_residuals`, `step_adjoint` and
    `product_arguments`."""

    def input_part(
        self, x: Tensor, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> Tensor:
        """The part of every step that does not depend on the state, for all steps at once.

        `weights` hold the memory, too, here and below.
        """

    def recurrent_products(
        self, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[Any, ...]:
        """The `products.RecurrentProduct`s of a step, prepared outside the loop."""

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """One step: `(output, new_states)`. It applies the products as often as it likes, in any
        order."""

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
    ) -> tuple[Tensor, list[Tensor], Any]:
        """One step, and what `step_adjoint` needs of it: `(output, new_states, residuals)`."""

    def step_adjoint(
        self,
        residuals: Any,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)` of one step from those of its results."""

    def product_arguments(self, residuals: Any, states: Sequence[Tensor]) -> list[Tensor]:
        """What each product was applied to, at one step or at all of them at once."""


Substitute = Callable[[Steppable, Options, Call], Results | None]
_substitute: ContextVar[Substitute | None] = ContextVar("_substitute", default=None)


@contextmanager
def replaced_by(substitute: Substitute) -> Iterator[None]:
    """Within it, `substitute(cell, options, call)` stands for the loop, unless it returns None.

    For exports, whose formats have recurrent operators of their own.
    """
    token = _substitute.set(substitute)
    try:
        yield
    finally:
        _substitute.reset(token)


def is_replaced() -> bool:
    """Whether something may stand for the loop: see `replaced_by`."""
    return _substitute.get() is not None


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """Run a cell over time.

    The mask rule: where the mask is False the states are carried over unchanged and the output
    repeats the previous one, zeros before the first valid step, or is zeros at every masked step
    with `zero_output_for_mask`. `go_backwards` reads the steps, and the mask, from the last to the
    first and leaves the outputs in the order in which they were computed.

    Args:
        cell: says `input_part`, `recurrent_products` and `step`.
        options: see `Options`.
        call: see `Call`.
        jit_compile: True compiles the loop with XLA wherever it runs, False never on its own (but
            on JAX, which knows no other loop); with "auto" the backend decides. A loop inside a
            function that is compiled by XLA is compiled along with it.
    """
    substitute = _substitute.get()
    if substitute is not None:
        results = substitute(cell, options, call)
        if results is not None:
            return results
    backend = keras.config.backend()
    room = backend if backend in ("tensorflow", "jax") else "unrolled"
    return importlib.import_module(f"{__package__}.{room}").run(cell, options, call, jit_compile)
