"""Zoneout, an option of every cell: Krueger et al. (2017).

"Zoneout: regularizing RNNs by randomly preserving hidden activations". With s'_t, the states that a
step returns, and a rate p of each state:

    s_t = d_t * s_{t-1} + (1 - d_t) * s'_t        in training; d_t ~ Bernoulli(p) for each unit
    s_t = p * s_{t-1} + (1 - p) * s'_t            in inference: the expectation

All of s'_t are computed before zoneout is applied: in LSTM, h'_t depends on c'_t, not on c_t. An
output that is one of the states, as in most cells, is that state after zoneout; any other output is
computed from s'_t.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.recurrence.checks import check_returned, check_step
from kerasrnn.recurrence.loop import Weights

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
    zoned = [
        _state(weights, name, rate, before, after) if rate else after
        for name, rate, before, after in zip(
            cell.state_names, _rates(cell), states, new, strict=True
        )
    ]
    for before, after in zip(new, zoned, strict=True):
        if output is before:
            output = after
    return output, zoned


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
