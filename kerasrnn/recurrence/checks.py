"""Checks of what a cell passes to the time loop: states, noise, products and their gradients.

They compare shapes and structures while a step is traced, so they cost nothing in a loop. Without
them a wrong shape is broadcast to a wrong number, or raises an error of the backend.
"""

from collections.abc import Sequence
from typing import Any

from keras import tree

from kerasrnn.base_layer import fits
from kerasrnn.recurrence.loop import Noise
from kerasrnn.recurrence.products import Product

Tensor = Any

MEMBERS = ("rank", "weights", "adjoint", "weight_gradients")
"""The members of `Product`, besides `__call__`."""


def check_noise(cell: Any, noise: Any, *axes: int | None) -> None:
    """Check the result of `draw_noise`.

    Args:
        cell: the cell that drew it.
        noise: the result.
        *axes: the numbers of rows and steps, as far as they are known; for a single step, only
            that of the rows.

    Raises:
        ValueError: it is not a `Noise`, or a tensor lacks the axes of its kind.
    """
    if not isinstance(noise, Noise):
        raise ValueError(
            f"{_name(cell)}.draw_noise returned {noise!r}; expected a kerasrnn.recurrence.Noise."
        )
    for kind, named, expected in (
        ("sequences", noise.sequences, axes[:1]),
        ("steps", noise.steps, axes),
    ):
        for path, tensor in tree.flatten_with_path(named):
            shape = tuple(getattr(tensor, "shape", ()))
            if not fits(shape[: len(expected)], expected):
                names = "(batch, time, ...)" if len(expected) == 2 else "(batch, ...)"
                wanted = ", ".join(str(size) for size in expected)
                raise ValueError(
                    f"{_name(cell)}.draw_noise: {kind}{_place(path)} has the shape {shape}; "
                    f"expected {names} = ({wanted}, ...)."
                )


def check_products(cell: Any, products: Any) -> None:
    """Raise ValueError unless these are products, in a tuple or list."""
    if not isinstance(products, (tuple, list)):
        raise ValueError(
            f"{_name(cell)}.recurrent_products returned a {type(products).__name__}; expected a "
            "tuple of products."
        )
    for k, product in enumerate(products):
        missing = [name for name in MEMBERS if not hasattr(product, name)]
        if missing or not callable(product):
            raise ValueError(
                f"{_name(cell)}.recurrent_products: products[{k}], a {type(product).__name__}, "
                f"lacks {', '.join(missing) or '__call__'}; expected the members of "
                "kerasrnn.recurrence.Product."
            )


def check_returned(cell: Any, returned: Any, count: int = 2) -> None:
    """Raise ValueError unless a step returned `(output, new_states)`, or three results, with a list
    of states."""
    valid = isinstance(returned, (tuple, list)) and len(returned) == count
    if not (valid and isinstance(returned[1], (tuple, list))):
        kinds = returned if isinstance(returned, (tuple, list)) else [returned]
        residuals = ", residuals" if count == 3 else ""
        raise ValueError(
            f"{_name(cell)}: a step returned {', '.join(type(x).__name__ for x in kinds)}; "
            f"expected (output, new_states{residuals}), with a list of states."
        )


def check_step(cell: Any, output: Tensor, new: Any, expected: Tensor, states: Any) -> None:
    """Check the results of a step.

    Args:
        cell: the cell.
        output: the output.
        new: the new states.
        expected: a tensor of the shape of an output, or None: it is not checked.
        states: the previous states.

    Raises:
        ValueError: the output or a state has another shape, or the states another structure.
    """
    if expected is not None and not fits(output.shape, expected.shape):
        raise ValueError(
            f"{_name(cell)}: a step returned an output of shape {tuple(output.shape)}; expected "
            f"{tuple(expected.shape)}: (batch, *output_shape)."
        )
    after, before = (dict(tree.flatten_with_path(list(x))) for x in (new, states))
    if after.keys() != before.keys():
        raise ValueError(
            f"{_name(cell)}: a step returned {_states(after)}; expected {_states(before)}, as in "
            "state_shapes."
        )
    for path, old in before.items():
        shape = tuple(after[path].shape)
        if not fits(shape, old.shape):
            raise ValueError(
                f"{_name(cell)}: a step returned new_states{_place(path)} of shape {shape}; "
                f"expected {tuple(old.shape)}, that of the state."
            )


def check_coefficients(
    cell: Any, decays: Sequence[Tensor], updates: Sequence[Tensor], states: Sequence[Tensor]
) -> None:
    """Check the result of `LinearCell.transition`, for all steps.

    Raises:
        ValueError: there is not one decay and one update for each state, or a shape does not fit.
    """
    for name, tensors in (("decays", decays), ("updates", updates)):
        if len(tensors) != len(states):
            raise ValueError(
                f"{_name(cell)}.transition returned {len(tensors)} {name}; expected "
                f"{len(states)}, one for each state."
            )
    for decay, update, state in zip(decays, updates, states, strict=True):
        shape, expected = tuple(update.shape), tuple(state.shape)
        if len(shape) != len(expected) + 1 or not fits(shape[1:], expected):
            raise ValueError(
                f"{_name(cell)}.transition returned an update of shape {shape}; expected "
                f"{(None, *expected)}: (time, *batch and state)."
            )
        of_decay = tuple(decay.shape)
        varies = len(of_decay) == len(shape)
        pairs = zip(reversed(of_decay), reversed(shape), strict=False)
        if not (varies or len(of_decay) <= len(shape) - 2) or not all(
            d in (None, 1) or size in (None, d) for d, size in pairs
        ):
            raise ValueError(
                f"{_name(cell)}.transition returned a decay of shape {of_decay}; expected one that "
                f"broadcasts to {shape}, or to {shape[2:]} if it is the same at every step."
            )


def check_adjoint(cell: Any, k: int, d_v: Any, v: Tensor) -> None:
    """Raise ValueError unless the result of a product's `adjoint` has the shape of its argument."""
    if d_v is None or not fits(d_v.shape, v.shape):
        received = None if d_v is None else f"a tensor of shape {tuple(d_v.shape)}"
        raise ValueError(
            f"{_name(cell)}: products[{k}].adjoint returned {received}; expected the shape of the "
            f"product's argument, {tuple(v.shape)}."
        )


def check_weight_gradients(product: Product, gradients: Any) -> None:
    """Raise ValueError unless a product's gradients are structured and shaped as its weights."""
    received, expected = (
        {path: None if x is None else tuple(x.shape) for path, x in tree.flatten_with_path(of)}
        for of in (gradients, product.weights)
    )
    same = received.keys() == expected.keys() and all(
        (shape is None) == (received[path] is None)
        and (shape is None or fits(received[path], shape))
        for path, shape in expected.items()
    )
    if not same:
        raise ValueError(
            f"{_name(product)}.weight_gradients returned the shapes {_shapes(received)}; expected "
            f"those of its weights, {_shapes(expected)}."
        )


def _name(thing: Any) -> str:
    return type(thing).__name__


def _place(path: Sequence[Any]) -> str:
    """The place of a tensor in a structure: `[1]['key']`."""
    return "".join(f"[{key!r}]" for key in path)


def _states(leaves: dict[Any, Any]) -> str:
    return ", ".join(f"new_states{_place(path)}" for path in leaves) or "no states"


def _shapes(leaves: dict[Any, Any]) -> str:
    return ", ".join(
        f"{_place(path)}: {shape}" if path else f"{shape}" for path, shape in leaves.items()
    )
