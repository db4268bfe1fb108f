"""Zoneout, an option of every cell: Krueger et al. (2017).

"Zoneout: regularizing RNNs by randomly preserving hidden activations". With s'_t, the states that a
step returns, and a rate p of each state:

    s_t = d_t * s_{t-1} + (1 - d_t) * s'_t        in training; d_t ~ Bernoulli(p) for each unit
    s_t = p * s_{t-1} + (1 - p) * s'_t            in inference: the expectation

All of s'_t are computed before zoneout is applied: in LSTM, h'_t depends on c'_t, not on c_t. An
output that is one of the states, as in most cells, is that state after zoneout; any other output is
computed from s'_t. A cell's own gradient is that of s'_t: with ds_t = dL/ds_t,

    ds'_t = (1 - d_t) * ds_t,   and d_t * ds_t is added to the gradient of s_{t-1}
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.recurrence.checks import check_returned, check_step
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product

Tensor = Any

NAME = "zoneout"


def applies(cell: Any) -> bool:
    """Whether any state of a cell has a rate above 0."""
    return any(_rates(cell))


def draw(cell: Any, inputs: Tensor, states: Sequence[Any], steps: Any) -> dict[str, Any]:
    """Draw, by state, which units keep their value at every step: the noise of the steps.

    Args:
        cell: the cell.
        inputs: any step of the inputs, `(batch, features)`.
        states: the initial states.
        steps: the number of steps; None for a single step.
    """
    if not applies(cell):
        return {}
    start = (ops.shape(inputs)[0], *(() if steps is None else (steps,)))

    def kept(state: Tensor, rate: float) -> Tensor:
        shape = (*start, *ops.shape(cell.into_step(state))[1:])
        return keras.random.uniform(shape, seed=cell.seed_generator) < rate

    return {
        NAME: {
            name: keras.tree.map_structure(lambda s, rate=rate: kept(s, rate), state)
            for name, state, rate in zip(cell.state_names, states, _rates(cell), strict=True)
            if rate
        }
    }


def step(
    cell: Any,
    a: Tensor,
    states: Sequence[Any],
    weights: Weights,
    products: tuple[Callable[[Tensor], Tensor], ...],
) -> tuple[Tensor, list[Any]]:
    """The step of a cell's class, followed by zoneout."""
    returned = type(cell).step(cell, a, states, weights, products)
    check_returned(cell, returned)
    output, new = returned
    check_step(cell, output, new, None, states)
    zoned = _zoned(cell, weights, states, new)
    return _output(output, new, zoned), zoned


class ZonedAdjoint:
    """The own gradient of a cell with zoneout: see `recurrence.loop.Adjoint`.

    The residuals are in a dict whose key is the index of the state that is the output, or -1: the
    structure of residuals is known when the backward pass is built, unlike their values.
    """

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Any], Any]:
        returned = self.cell.step_with_residuals(a, states, weights, products)
        check_returned(self.cell, returned, count=3)
        output, new, residuals = returned
        check_step(self.cell, output, new, None, states)
        index = next((k for k, state in enumerate(new) if state is output), -1)
        zoned = _zoned(self.cell, weights, states, new)
        return _output(output, new, zoned), zoned, {str(index): residuals}

    def step_adjoint(
        self,
        residuals: dict[str, Any],
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Product, ...],
        d_output: Tensor,
        d_states: Sequence[Any],
    ) -> tuple[Tensor, list[Any], dict[str, Tensor], list[Tensor]]:
        ((index, of_cell),) = residuals.items()
        d_states = list(d_states)
        if index != "-1":
            d_states[int(index)] = d_states[int(index)] + d_output
            d_output = ops.zeros_like(d_output)
        names, rates = self.cell.state_names, _rates(self.cell)
        d_new, d_kept = [], []
        for name, rate, d in zip(names, rates, d_states, strict=True):
            nothing = keras.tree.map_structure(ops.zeros_like, d)
            d_new.append(_state(weights, name, rate, nothing, d) if rate else d)
            d_kept.append(_state(weights, name, rate, d, nothing) if rate else None)
        d_a, d_before, *others = self.cell.step_adjoint(
            of_cell, states, weights, products, d_output, d_new
        )
        d_before = [
            d if kept is None else keras.tree.map_structure(ops.add, d, kept)
            for d, kept in zip(d_before, d_kept, strict=True)
        ]
        return d_a, d_before, *others

    def product_arguments(self, residuals: dict[str, Any], states: Sequence[Any]) -> list[Tensor]:
        (of_cell,) = residuals.values()
        return self.cell.product_arguments(of_cell, states)


def _zoned(cell: Any, weights: Weights, states: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """All states after zoneout."""
    return [
        _state(weights, name, rate, before, after) if rate else after
        for name, rate, before, after in zip(
            cell.state_names, _rates(cell), states, new, strict=True
        )
    ]


def _output(output: Tensor, new: Sequence[Any], zoned: Sequence[Any]) -> Tensor:
    """The output after zoneout, if it is one of the states."""
    for before, after in zip(new, zoned, strict=True):
        if output is before:
            return after
    return output


def _state(weights: Weights, name: str, rate: float, before: Any, after: Any) -> Any:
    """One state, a tensor or a structure of them, after zoneout."""
    if weights.training:
        kept = keras.tree.flatten(weights.noise[NAME][name])
    else:
        kept = [None for _ in keras.tree.flatten(after)]
    zoned = [
        rate * old + (1 - rate) * new if keep is None else ops.where(keep, old, new)
        for keep, old, new in zip(
            kept, keras.tree.flatten(before), keras.tree.flatten(after), strict=True
        )
    ]
    return keras.tree.pack_sequence_as(after, zoned)


def _rates(cell: Any) -> list[float]:
    """The rate of each state.

    Raises:
        ValueError: there are not as many rates as states, or zoneout does not apply to a state.
    """
    names, rates = cell.state_names, cell.zoneout
    if not isinstance(rates, list):
        return [0.0 if name in cell.without_zoneout else rates for name in names]
    if len(rates) != len(names):
        raise ValueError(
            f"zoneout={rates!r}: expected one number, or one for each state ({', '.join(names)})."
        )
    for name, rate in zip(names, rates, strict=True):
        if rate and name in cell.without_zoneout:
            raise ValueError(
                f"zoneout={rates!r}: expected 0 for the state {name} of {type(cell).__name__}, "
                "which has no meaning apart from the other states."
            )
    return rates
