"""The time loop and its adjoint, with the mask rule of Keras."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.blocks import Weights

Step = Callable[..., tuple[np.ndarray, list[np.ndarray]]]
StepBackward = Callable[..., tuple[np.ndarray, list[np.ndarray], Weights]]


def run(
    step: Step,
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    mask: np.ndarray | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    **options,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Applies `step` along the time axis.

    Args:
        step: `step(x_t, states, weights, **options) -> (output, new_states)`.
        x: inputs, (batch, time, features), at least one step; or images, of any number of axes.
        states: initial states, each (batch, ...).
        weights: the cell's weights by name.
        mask: (batch, time), true where a step is to be used. On a masked step the states are
            carried over, (M1), and the output repeats the previous one, (M2): zeros before the
            first step that is used.
        go_backwards: read `x` and `mask` from the last step to the first. Outputs are returned in
            the order of processing.
        zero_output_for_mask: the output of a masked step is zeros instead, (M3).
        **options: passed to `step`.

    Returns:
        The outputs (batch, time, units), the output of the last step processed (batch, units), and
        the final states.
    """
    x, use = _in_processing_order(x, mask, go_backwards)
    states = list(states)
    outputs = []
    for t in range(x.shape[1]):
        new_output, new_states = step(x[:, t], states, weights, **options)
        repeat = bool(outputs) and not zero_output_for_mask
        fallback = outputs[-1] if repeat else np.zeros_like(new_output)
        outputs.append(_where(use[:, t], new_output, fallback))
        states = [_where(use[:, t], new, s) for new, s in zip(new_states, states, strict=True)]
    return np.stack(outputs, axis=1), outputs[-1], states


def run_backward(
    step: Step,
    step_backward: StepBackward,
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    d_outputs: np.ndarray,
    d_final_states: Sequence[np.ndarray],
    *,
    mask: np.ndarray | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    **options,
) -> tuple[np.ndarray, list[np.ndarray], Weights]:
    """Backpropagation through time: the adjoint of `run`.

    Args:
        step: the step forward, which recovers the states that each step saw.
        step_backward: `step_backward(x_t, states, weights, d_output, d_new_states, **options) ->
            (dx_t, d_states, d_weights)`.
        x: as in `run`.
        states: as in `run`.
        weights: as in `run`.
        d_outputs: the loss's gradient with respect to the outputs, (batch, time, units), in the
            order of processing. A loss on the last output adds its gradient to the last step.
        d_final_states: the loss's gradient with respect to each final state.
        mask: as in `run`.
        go_backwards: as in `run`.
        zero_output_for_mask: as in `run`.
        **options: passed to `step` and `step_backward`.

    Returns:
        The gradients with respect to `x` (in the order of `x`), the initial states and the weights.
    """
    x, use = _in_processing_order(x, mask, go_backwards)
    # A masked step may hold anything, NaN included, and 0 * NaN would reach the weights.
    x = np.where(use[:, :, None], x, 0)

    states_before = [list(states)]
    for t in range(x.shape[1]):
        _, new_states = step(x[:, t], states_before[t], weights, **options)
        states_before.append(
            [_where(use[:, t], new, s) for new, s in zip(new_states, states_before[t], strict=True)]
        )

    dx = np.zeros_like(x)
    d_weights = {name: np.zeros_like(value) for name, value in weights.items()}
    d_states = list(d_final_states)  # (B3)
    d_repeated = np.zeros_like(d_outputs[:, 0])  # reaches an output through those that repeat it
    for t in reversed(range(x.shape[1])):
        d_output = d_outputs[:, t] + d_repeated  # (M5)
        # Only the sequences that used step t send anything through the cell.
        d_new_output = _where(use[:, t], d_output, 0)  # (M4)
        d_new_states = [_where(use[:, t], d, 0) for d in d_states]  # (M4)
        dx[:, t], d_through_cell, d_weights_t = step_backward(
            x[:, t], states_before[t], weights, d_new_output, d_new_states, **options
        )
        d_states = [
            through + _where(use[:, t], 0, around)  # (M4), with (B2) inside the cell
            for through, around in zip(d_through_cell, d_states, strict=True)
        ]
        if not zero_output_for_mask:
            d_repeated = _where(use[:, t], 0, d_output)  # (M5)
        for name in d_weights:
            d_weights[name] += d_weights_t[name]  # (B4), (B5), (B6): sums over time
    return (dx[:, ::-1] if go_backwards else dx), d_states, d_weights


def _in_processing_order(
    x: np.ndarray, mask: np.ndarray | None, go_backwards: bool
) -> tuple[np.ndarray, np.ndarray]:
    use = np.ones(x.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    return (x[:, ::-1], use[:, ::-1]) if go_backwards else (x, use)


def _where(use: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    return np.where(use.reshape(-1, *(1 for _ in range(max(np.ndim(a), np.ndim(b)) - 1))), a, b)
