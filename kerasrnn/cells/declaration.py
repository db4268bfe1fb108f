"""Derives the constructor and the documentation of a cell from its class's declarations.

`Cell.__init_subclass__` calls these functions for every subclass. `base` is `Cell`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kerasrnn.cells.arguments import (
    REMOVED,
    ClassSignature,
    check_declared,
    document,
    document_arguments,
    filled,
    signature,
)


@dataclass(frozen=True)
class Wording:
    """How the docstrings of a cell and its layer name the axes of tensors, and their examples."""

    inputs: str = "features"
    """The axes of an input, besides those of the batch and of time."""

    outputs: str = "units"
    """Those of an output, and of each state unless `states` names others."""

    states: tuple[str, ...] = ()
    state_shapes: tuple[tuple[int, ...], ...] = ()
    """Those of each state and its shape in the examples, if a state has another shape than an
    output."""

    arguments: str = "4"
    """The arguments of the constructor in the examples."""

    input_shape: tuple[int, ...] = (3,)
    output_shape: tuple[int, ...] = (4,)
    """The shapes in the examples, without the axes of the batch and of time."""

    built: bool = False
    """Whether the cell must be built before it has initial states."""

    @property
    def shapes_of_states(self) -> str:
        """Describe the shapes of the states."""
        if not self.states:
            return f"each `(batch, {self.outputs})`"
        *others, last = (f"`(batch, {axes})`" for axes in self.states)
        return f"{', '.join(others)} and {last}"


CALL = """
Call arguments:
    inputs: `(batch, {inputs})`.
    states: {states}
    training: whether dropout is applied.

Raises:
    ValueError: an argument is out of its range, or a state is missing.
    TypeError: an argument of the constructor is unknown, or a required one is missing.
"""

EXAMPLE = """
Example:

    >>> import numpy as np, kerasrnn
    >>> cell = kerasrnn.{name}({arguments}){build}
    >>> output, states = cell(np.ones({input_shape}, "float32"), cell.get_initial_state(2))
    >>> tuple(output.shape), [tuple(state.shape) for state in states]
    ({shape}, {shapes})
"""

EQUATIONS = ("update", "step")
"""Methods that hold a cell's equations."""

FORWARD = (
    "update_with_residuals",
    "step_with_residuals",
    "input_part",
    "recurrent_products",
    "product_groups",
    "weights_by_name",
    "run",
)
"""Other methods that affect a cell's outputs."""


def declare(cls: type, base: type) -> None:
    """Derive the constructor and the documentation of a class from its declarations."""
    check_declared(cls, base)
    declared: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        declared |= vars(owner).get("own_arguments", {})
    kept = {name: default for name, default in declared.items() if default is not REMOVED}
    cls.constructor = signature(kept)
    derived = cls.__init__ is base.__init__
    cls.__signature__ = ClassSignature(cls.constructor if derived else _without_self(cls.__init__))
    if document_arguments(cls, [*cls.arguments()]):
        wording = cls.wording
        states = _as_argument(cls.state_names, wording)
        document(cls, filled(CALL.format(inputs=wording.inputs, states=states)))
        if is_ours(cls) and cls is not base and "\nExample: " not in cls.__doc__:
            document(cls, _example(cls))


def reset_properties_of_equations(cls: type, base: type) -> None:
    """Restore the defaults of properties that do not hold for equations that the class changes."""
    if _is_overridden(cls, EQUATIONS, below="has_adjoint"):
        cls.has_adjoint = property(base.has_adjoint.fget)
    if _is_overridden(cls, EQUATIONS, below="single_read"):
        cls.single_read = False
    for name in ("is_linear", "is_chunked"):
        if _is_overridden(cls, EQUATIONS, below=name):
            setattr(cls, name, False)
    if _is_overridden(cls, (*EQUATIONS, *FORWARD), below="onnx_operator"):
        cls.onnx_operator = property(base.onnx_operator.fget)


def check_update_is_used(cls: type, base: type) -> None:
    """Raise TypeError if a class overrides `update` below a `step` of the library's own cells."""
    steps = next(owner for owner in cls.__mro__ if "step" in vars(owner))
    if steps is not base and is_ours(steps) and _is_overridden(cls, ["update"], below="step"):
        ours = next(owner for owner in cls.__mro__ if is_ours(owner))
        raise TypeError(
            f"{cls.__name__} overrides `update`, which {ours.__name__} does not use; expected "
            "an override of `step`."
        )


def arguments_of(cls: type, base: type) -> dict[str, inspect.Parameter]:
    """The constructor's own arguments, as `Cell.arguments` returns them."""
    parameters: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if "__init__" in vars(owner):
            init = cls.constructor if owner is base else _without_self(owner.__init__)
            parameters = {**init.parameters, **parameters}
            takes_others = any(p.kind is p.VAR_KEYWORD for p in init.parameters.values())
            if owner is base or not takes_others:
                break
    return {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def is_ours(cls: type) -> bool:
    """Whether a class is defined in this library."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def _is_overridden(cls: type, names: Sequence[str], below: str) -> bool:
    """Whether a subclass of the class that defines `below` overrides one of these methods."""

    def depth(name: str) -> int:
        return next(n for n, owner in enumerate(cls.__mro__) if name in vars(owner))

    return any(depth(name) < depth(below) for name in names)


def _example(cls: type) -> str:
    wording = cls.wording
    input_shape, shape = (2, *wording.input_shape), (2, *wording.output_shape)
    return EXAMPLE.format(
        name=cls.__name__,
        arguments=wording.arguments,
        build=f"\n    >>> cell.build({input_shape})" if wording.built else "",
        input_shape=input_shape,
        shape=shape,
        shapes=[(2, *s) for s in wording.state_shapes] or [shape] * len(cls.state_names),
    )


def _without_self(init: Callable[..., None]) -> inspect.Signature:
    signature = inspect.signature(init)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _as_argument(names: Sequence[str], wording: Wording) -> str:
    """Describe the states in the docstring of a cell's call."""
    if len(names) == 1 and not wording.states:
        return f"{names[0]}, `(batch, {wording.outputs})`, as a tensor or in a list."
    return f"`[{', '.join(names)}]`, {wording.shapes_of_states}."
