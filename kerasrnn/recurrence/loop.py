"""The door to the time loop, and the protocol between it and the cells."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import keras

Tensor = Any
JitCompile = bool | Literal["auto"]


class Dropout(NamedTuple):
    """Dropout masks of one call; None where nothing is dropped."""

    inputs: list[Tensor] | None = None
    recurrent: list[Tensor] | None = None


@dataclass(frozen=True)
class Options:
    """What a time loop does besides stepping; part of the key under which a loop is compiled."""

    return_sequences: bool = False
    go_backwards: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    training: bool = False


class Steppable(Protocol):
    """What the loop asks of a cell. `kerasrnn.Cell` is one."""

    output_size: int
    step_weights: tuple[str, ...]

    def input_part(
        self, x: Tensor, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> Tensor:
        """The part of every step that does not depend on the state, for all steps at once."""

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
        """One step: `(output, new_states)`. It applies each product once, in order."""


def run(
    cell: Steppable,
    options: Options,
    sequences: Tensor,
    states: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    dropout: Dropout,
    mask: Tensor | None,
    jit_compile: JitCompile,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run a cell over time.

    The mask rule: where `mask` is False the states are carried over unchanged and the output
    repeats the previous one, zeros before the first valid step, or is zeros at every masked step
    with `zero_output_for_mask`. `go_backwards` reads the steps, and the mask, from the last to the
    first and leaves the outputs in the order in which they were computed.

    Args:
        cell: says `input_part`, `recurrent_products` and `step`.
        options: see `Options`.
        sequences: `(batch, time, features)`.
        states: initial states, each `(batch, ...)`.
        weights: the cell's weights by name.
        dropout: masks drawn for this call.
        mask: boolean `(batch, time)`, True where the step counts, or None.
        jit_compile: True compiles the loop with XLA wherever it runs; "auto" and False do not,
            but the loop is compiled along with a function around it that is.

    Returns:
        `(last_output, outputs, states)`: `(batch, units)`, `(batch, time, units)` (one step alone
        unless `return_sequences`), and the final states.
    """
    backend = keras.config.backend()
    room = backend if backend in ("tensorflow", "jax") else "unrolled"
    loop = importlib.import_module(f"{__package__}.{room}")
    return loop.run(cell, options, sequences, states, weights, dropout, mask, jit_compile)
