"""Options of recipes: frozen dataclasses whose fields carry help texts and valid ranges.

This module does not import Keras, so that the command line shows its help quickly.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from kerasrnn import catalogue

T = TypeVar("T")

CELLS = tuple(entry.module for entry in sorted(catalogue.CELLS, key=lambda entry: entry.layer))
"""Names of the cells that `kerasrnn.zoo` accepts."""

HIGHEST_SEED = 2**32 - 1  # the limit of NumPy's global generator


class ConfigError(ValueError):
    """An option has an invalid value."""


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    expected: str | None = None,
) -> Any:
    """A field with its help text and valid range: `low <= value <= high`, `< below`.

    `expected` describes the valid values. By default, the description follows from the others.
    """
    limits = {"choices": choices, "low": low, "high": high, "below": below, "expected": expected}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def cell(default: str, help: str = "recurrent cell") -> Any:
    """A field for the name of a cell."""
    expected = "lstm, gru or another cell of `kerasrnn list --cells`"
    return option(default, help, choices=CELLS, expected=expected)


@dataclass(frozen=True)
class Options:
    """Options that are validated on construction."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field, getattr(self, field.name))

    def refuse_ignored(self, because: str, *names: str) -> None:
        """Raise ConfigError for the first option that has no effect but is not at its default."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in names and value != field.default:
                raise ConfigError(
                    f"{field.name}={value!r}: expected {field.default!r}; with {because} it would "
                    "be ignored."
                )


@dataclass(frozen=True)
class Config(Options):
    """The training options shared by all recipes."""

    OF_CATALOGUE: ClassVar[tuple[str, ...]] = ()
    """Options that select among the recipe's own datasets; not valid with `data`."""

    epochs: int = option(1, "passes over the training data", low=1)
    batch_size: int = option(32, "examples per step", low=1)
    learning_rate: float = option(1e-3, "peak learning rate", low=1e-6)
    warmup: float = option(
        0.0,
        "fraction of the steps over which the learning rate warms up from zero",
        low=0.0,
        below=1.0,
    )
    schedule: str = option(
        "cosine", "learning rate schedule after the warmup", choices=("cosine", "constant")
    )
    weight_decay: float = option(0.01, "decoupled weight decay (AdamW)", low=0.0)
    clipping: str = option(
        "global_norm",
        "gradient clipping: by global norm, by the norm of each gradient, or by value",
        choices=("global_norm", "norm", "value", "none"),
    )
    clip_at: float = option(1.0, "threshold of the gradient clipping", low=1e-6)
    validation: float = option(
        0.0,
        "fraction of the training data held out for validation after each epoch, if the dataset "
        "has no validation split",
        low=0.0,
        below=1.0,
    )
    keep: str = option(
        "last",
        "which weights to keep: those of the last epoch, or those with the lowest validation loss",
        choices=("last", "best"),
    )
    patience: int = option(
        0,
        "stop after so many epochs in a row without a lower validation loss; 0: never",
        low=0,
    )
    seed: int = option(
        0, "random seed of the weights, dropout and data order", low=0, high=HIGHEST_SEED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clipping == "none":
            self.refuse_ignored("clipping='none'", "clip_at")
        if getattr(self, "data", ""):
            self.refuse_ignored("data", *self.OF_CATALOGUE)


def default(name: str, value: Any) -> Any:
    """A field of `Config` with another default; its help text and valid range stay."""
    return dataclasses.field(default=value, metadata=Config.__dataclass_fields__[name].metadata)


def check(field: dataclasses.Field, value: Any) -> None:
    """Raise ConfigError if a value is invalid for a field."""
    expected = expectation(field)
    kinds = {"int": int, "float": (int, float), "bool": bool, "str": str}
    kind = field.type if isinstance(field.type, str) else field.type.__name__
    good = isinstance(value, kinds[kind]) and (kind == "bool" or not isinstance(value, bool))
    if good and kind in ("int", "float"):
        limits = field.metadata
        good = (
            # isfinite converts to float, for which an integer may be too large.
            (isinstance(value, int) or math.isfinite(value))
            and (limits["low"] is None or value >= limits["low"])
            and (limits["high"] is None or value <= limits["high"])
            and (limits["below"] is None or value < limits["below"])
        )
    if good and field.metadata["choices"] is not None:
        good = value in field.metadata["choices"]
    if not good:
        raise ConfigError(f"{field.name}={shown(value)}: expected {expected}.")


def shown(value: Any) -> str:
    """Format a value for a message, truncated if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not format integers of more than some thousand digits
        return "an integer of thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def expectation(field: dataclasses.Field) -> str:
    """Describe the valid values of a field."""
    limits = field.metadata
    if limits["expected"] is not None:
        return limits["expected"]
    if limits["choices"] is not None:
        return "one of " + ", ".join(str(choice) for choice in limits["choices"])
    kind = field.type if isinstance(field.type, str) else field.type.__name__
    words = {
        "int": "an integer",
        "float": "a finite number",
        "bool": "true or false",
        "str": "a text",
    }
    text = words[kind]
    bounds = []
    if limits["low"] is not None:
        bounds.append(f"at least {limits['low']}")
    if limits["high"] is not None:
        bounds.append(f"at most {limits['high']}")
    if limits["below"] is not None:
        bounds.append(f"below {limits['below']}")
    return f"{text}, {' and '.join(bounds)}" if bounds else text


def parsed(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has too long a number.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python does not parse integers of more than some thousand digits
        raise ValueError("it has a number of thousands of digits") from None


def from_dict(config_class: type[T], values: dict[str, Any]) -> T:
    """Create a configuration from a dictionary, for example read from a file.

    Raises:
        ConfigError: a name is unknown (the message lists the existing ones) or a value is invalid.
    """
    names = [field.name for field in dataclasses.fields(config_class)]
    for name in values:
        if name not in names:
            raise ConfigError(
                f"option {name!r} does not exist; expected one of: {', '.join(names)}."
            )
    return config_class(**values)
