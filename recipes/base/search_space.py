"""Search spaces of `tune`: values by option name, as plain data next to a recipe's `Config`.

    search_space = {
        "cell": space.choice("lstm", "gru"),
        "units": space.powers(32, 256),
        "learning_rate": space.floats(3e-4, 3e-2, log=True),
        **space.CLIPPING,
    }

This module imports neither Keras nor keras-tuner, so that the command line shows a space quickly.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Given = Mapping[str, tuple[Any, ...]]
"""Values of other options that are required for a hyperparameter to have an effect."""


@dataclass(frozen=True)
class Choice:
    """A choice among values: names, or false and true."""

    values: tuple[Any, ...]
    given: Given = field(default_factory=dict)

    @property
    def log(self) -> bool:
        return False

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        if set(self.values) == {False, True}:
            return "yes or no"
        return "one of " + ", ".join(map(str, self.values))

    def ends(self) -> Sequence[Any]:
        """The extreme values of a search."""
        return self.values

    def rounded(self, value: Any) -> Any:
        return value

    def declare(self, hyperparameters: Any, name: str, default: Any = None) -> Any:
        """Register with keras-tuner's `HyperParameters`; returns their value for it, if any."""
        default = default if default in self.values else self.values[0]
        if set(self.values) == {False, True}:
            return hyperparameters.Boolean(name, default=default)
        if len(self.values) == 1:
            return hyperparameters.Fixed(name, default)
        return hyperparameters.Choice(name, list(self.values), default=default)


@dataclass(frozen=True)
class Numbers:
    """A number in a closed interval."""

    low: float
    high: float
    integer: bool = False
    log: bool = False
    """Whether the scale is logarithmic."""

    step: float | None = None
    """The step from one value to the next; with `log`, a factor. None: any value."""

    given: Given = field(default_factory=dict)

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, (bool, str)) or not self.low <= value <= self.high:
            return False
        return self.step is None or value in self.values_between()

    def __str__(self) -> str:
        text = f"{self.low:g} to {self.high:g}"
        if self.step is None:
            return f"{text}, by factors" if self.log else text
        if self.log:
            return f"{text}, times {self.step:g}"
        return text if self.integer and self.step == 1 else f"{text}, by {self.step:g}"

    def ends(self) -> Sequence[Any]:
        """The extreme values of a search."""
        return (self.low, self.high)

    def rounded(self, value: Any) -> Any:
        """Round a float to three digits, which is fine enough for a search."""
        return int(value) if self.integer else float(f"{value:.3g}")

    def declare(self, hyperparameters: Any, name: str, default: Any = None) -> Any:
        """Register with keras-tuner's `HyperParameters`; returns their value for it, if any."""
        kind = hyperparameters.Int if self.integer else hyperparameters.Float
        value = kind(
            name,
            self.low,
            self.high,
            step=self.step,
            sampling="log" if self.log else "linear",
            default=default if default is not None and default in self else None,
        )
        return None if value is None else self.rounded(value)

    def values_between(self) -> list[float]:
        """All values, if there is a step."""
        values, value = [], self.low
        while value <= self.high:
            values.append(value)
            value = value * self.step if self.log else value + self.step
        return values


Kind = Choice | Numbers
Space = Mapping[str, Kind]


def choice(*values: Any, given: Given | None = None) -> Choice:
    """A choice among values."""
    return Choice(values, given or {})


def switch(given: Given | None = None) -> Choice:
    """True or false."""
    return Choice((False, True), given or {})


def powers(low: int, high: int, given: Given | None = None) -> Numbers:
    """Powers of two times `low`, up to `high`: layer sizes."""
    return Numbers(low, high, integer=True, log=True, step=2, given=given or {})


def integers(low: int, high: int, step: int = 1, given: Given | None = None) -> Numbers:
    """Integers from `low` to `high`."""
    return Numbers(low, high, integer=True, step=step, given=given or {})


def floats(low: float, high: float, log: bool = False, given: Given | None = None) -> Numbers:
    """Numbers from `low` to `high`; with `log`, uniform on a logarithmic scale."""
    return Numbers(low, high, log=log, given=given or {})


CLIPPING: Space = {
    # Clipping by norm and by value are not searched by default.
    "clipping": choice("global_norm", "none"),
    "clip_at": floats(0.1, 10.0, log=True, given={"clipping": ("global_norm", "norm", "value")}),
}


def narrowed(space: Space, fixed: Collection[str], values: Mapping[str, Any]) -> dict[str, Kind]:
    """The remaining search space after the user has fixed some options.

    Hyperparameters without effect given the fixed options are dropped. If a fixed option has an
    effect only with some values of another one, only those values are searched.

    Args:
        space: the recipe's search space.
        fixed: names of the fixed options.
        values: of all options: those that are fixed, and the defaults of the others.
    """
    left: dict[str, Kind] = {}
    for name, kind in space.items():
        if name in fixed:
            for parent, allowed in kind.given.items():
                if parent in left:
                    kept = tuple(value for value in left[parent].values if value in allowed)
                    left[parent] = dataclasses.replace(left[parent], values=kept)
            continue
        searched = {parent: allowed for parent, allowed in kind.given.items() if parent in left}
        decided = {name: allowed for name, allowed in kind.given.items() if name not in left}
        if all(values[parent] in allowed for parent, allowed in decided.items()):
            left[name] = dataclasses.replace(kind, given=searched)
    return left


def declare(hyperparameters: Any, space: Space, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Register a space with keras-tuner's `HyperParameters`; returns their values.

    A hyperparameter without effect given the others' values has no value.
    """
    values: dict[str, Any] = {}
    for name, kind in space.items():
        with contextlib.ExitStack() as conditions:
            for parent, allowed in kind.given.items():
                conditions.enter_context(
                    hyperparameters.conditional_scope(parent, _possible(space, parent, allowed))
                )
            value = kind.declare(hyperparameters, name, defaults.get(name))
        if value is not None:
            values[name] = value
    return values


def _possible(space: Space, parent: str, allowed: Sequence[Any]) -> list[Any]:
    """The required values of a parent that the parent can take."""
    return [value for value in allowed if value in space[parent]]


def described(space: Space) -> str:
    """Describe a space, with a line for each hyperparameter."""
    lines = []
    for name, kind in space.items():
        line = f"  {name:<17} {kind}"
        conditions = []
        for parent, allowed in kind.given.items():
            if parent in space:
                allowed = _possible(space, parent, allowed)
            conditions.append(f"{parent} {' or '.join(map(str, allowed))}")
        line += f" (with {' and '.join(conditions)})" if conditions else ""
        lines.append(line)
    return "\n".join(lines)
