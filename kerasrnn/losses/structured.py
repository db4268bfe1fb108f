"""What is behind predictions: the distribution of entire targets, which a layer attaches to them.

The predictions of `kerasrnn.CRF` are the probabilities of the tags of each step. The probability of
all tags of a row together, which is the loss, does not follow from them. The layer therefore
attaches the distribution to its output, as Keras attaches masks. A loss needs no reference to the
layer, and is saved and loaded with the model like any other.
"""

import weakref
from typing import Any, Protocol

from kerasrnn.keras_internals import in_symbolic_scope

Tensor = Any

STRUCTURE, TOKENS = "_kerasrnn_structure", "_kerasrnn_tokens"
"""The names under which a distribution is attached: of entire rows, or of each token."""


class Structure(Protocol):
    """A distribution of the targets of each row."""

    @property
    def mask(self) -> Tensor:
        """Boolean `(batch, time)`, True = the step has a target."""

    def log_likelihood(self, targets: Tensor) -> Tensor:
        """The logarithm of the targets' probability, `(batch,)`."""

    def most_probable(self) -> Tensor:
        """The targets with the highest probability, `(batch, time)`."""


class TokenDistribution(Protocol):
    """A distribution of the target of each step, given without the probabilities of all classes.

    `ids` and `used` are `(batch, time)`; ids are classes at all steps. Steps that are not used have
    no influence on gradients.
    """

    def losses(self, ids: Tensor, used: Tensor | None) -> Tensor:
        """What training minimizes: the negative log-probability of each target, or its estimate."""

    def exact_losses(self, ids: Tensor, used: Tensor | None) -> Tensor:
        """The negative log-probability of each target."""


_attached: dict[tuple[int, str], Any] = {}
"""By the id of a tensor that has no attributes, as on JAX."""


def attach(tensor: Tensor, distribution: Any, name: str = STRUCTURE) -> None:
    """Attach what is behind a layer's output."""
    try:
        setattr(tensor, name, distribution)
    except AttributeError:
        _attached[id(tensor), name] = distribution
        weakref.finalize(tensor, _attached.pop, (id(tensor), name), None)


def structure_of(tensor: Tensor) -> Structure | None:
    """The distribution of entire rows that is attached to predictions, if any."""
    return _find(tensor, STRUCTURE)


def tokens_of(tensor: Tensor) -> TokenDistribution | None:
    """The distribution of each token that is attached to predictions, if any."""
    return _find(tensor, TOKENS)


def _find(tensor: Tensor, name: str) -> Any:
    attached = getattr(tensor, name, None)
    return _attached.get((id(tensor), name)) if attached is None else attached


def is_stand_in(tensor: Tensor) -> bool:
    """Whether Keras infers shapes with a tensor that no layer has computed."""
    return in_symbolic_scope() and structure_of(tensor) is None
