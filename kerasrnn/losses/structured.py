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

ATTRIBUTE = "_kerasrnn_structure"


class Structure(Protocol):
    """A distribution of the targets of each row."""

    @property
    def mask(self) -> Tensor:
        """Boolean `(batch, time)`, True = the step has a target."""

    def log_likelihood(self, targets: Tensor) -> Tensor:
        """The logarithm of the targets' probability, `(batch,)`."""

    def most_probable(self) -> Tensor:
        """The targets with the highest probability, `(batch, time)`."""


_attached: dict[int, Structure] = {}
"""By the id of a tensor that has no attributes, as on JAX."""


def attach(tensor: Tensor, structure: Structure) -> None:
    """Attach what is behind a layer's output."""
    try:
        setattr(tensor, ATTRIBUTE, structure)
    except AttributeError:
        _attached[id(tensor)] = structure
        weakref.finalize(tensor, _attached.pop, id(tensor), None)


def structure_of(tensor: Tensor) -> Structure | None:
    """What is attached to predictions, if anything."""
    attached = getattr(tensor, ATTRIBUTE, None)
    return _attached.get(id(tensor)) if attached is None else attached


def is_stand_in(tensor: Tensor) -> bool:
    """Whether Keras infers shapes with a tensor that no layer has computed."""
    return in_symbolic_scope() and structure_of(tensor) is None
