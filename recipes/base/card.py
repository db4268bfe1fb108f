"""The card of a recipe: title, protocol, metrics, limits, published results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published result, for comparison."""

    model: str
    source: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A recipe's statements for its card, the documentation and `kerasrnn list`.

    `kerasrnn.recipes.reporting.cards` adds the measured results.
    """

    title: str
    topology: str
    result: str
    """The main result with its conditions, for `kerasrnn list`."""

    protocol: str
    """The training, validation and test data, what was tuned how, and the licence."""

    metrics: tuple[str, ...]
    """The test metrics shown; variants are compared by the first one."""

    lower_is_better: bool = False
    """Whether lower values of the first metric are better."""

    limits: str = ""
    """The known limits of the pretrained model."""

    published: Sequence[Published] = ()
