"""Predictions of classes: which kind they are, and their checks."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn.keras_internals import is_concrete
from kerasrnn.recurrence.log_semiring import NEVER

Tensor = Any

TOLERANCE = 0.01
"""Largest accepted difference of a sum of probabilities from 1, chosen for half precision."""


class Wording(NamedTuple):
    """What messages call the predictions, and the options that say what they are."""

    predictions: str = "y_pred"
    logits: str = "from_logits=True"
    probabilities: str = "from_logits=False"


WORDING = Wording()


def check_predictions(
    y_pred: Tensor, used: Tensor | None, from_logits: bool, wording: Wording = WORDING
) -> None:
    """Raise ValueError if the predictions contradict `from_logits`.

    Checks the operation that computed them, in a TensorFlow graph, or their values, if known.
    """
    name, logits, probabilities = wording
    if from_logits and logits_before_softmax(y_pred) is not None:
        raise ValueError(
            f"{logits}: expected logits; {name} is the output of a softmax. Set {probabilities}."
        )
    if not from_logits and operation_type(y_pred) == "BiasAdd":
        raise ValueError(
            f"{probabilities}: expected probabilities; {name} is the output of a layer without an "
            f"activation. Set {logits}, or add a softmax."
        )
    if not is_concrete(y_pred) or 0 in y_pred.shape:
        return
    scores = ops.cast(y_pred, "float32")
    known = values_in_use(used, ops.sum(scores, axis=-1), ops.min(scores, axis=-1))
    if known is None:
        return
    sums, least = known
    if from_logits:
        if sums.size and (least >= 0).all() and (np.abs(sums - 1) < 1e-3).all():
            raise ValueError(
                f"{logits}: expected logits; {name} contains probabilities: no value is negative, "
                f"and each step has the sum 1. Set {probabilities}."
            )
        return
    # Comparisons with NaN are False: divergence of a model is not reported here.
    if (least < 0).any():
        problem = f"the value {np.nanmin(least):.4g}"
    elif (np.abs(sums - 1) > TOLERANCE).any():
        problem = f"the sum {sums[np.abs(sums - 1) > TOLERANCE][0]:.4g}"
    else:
        return
    raise ValueError(
        f"{probabilities}: expected non-negative probabilities in {name}, with the sum 1 at each "
        f"step; found {problem}. For logits, set {logits}."
    )


def values_in_use(used: Tensor | None, *tensors: Tensor) -> "list[np.ndarray] | None":
    """The values of the tokens in use, `(tokens,)`; None if they are unknown."""
    if not all(is_concrete(tensor) for tensor in (*tensors, used) if tensor is not None):
        return None
    arrays = [ops.convert_to_numpy(tensor) for tensor in tensors]
    place = slice(None) if used is None else ops.convert_to_numpy(used)
    return [array[place] for array in arrays]


def operation_type(tensor: Tensor) -> str | None:
    """The type of the operation that computed a tensor of a TensorFlow graph."""
    return getattr(getattr(tensor, "op", None), "type", None) if not is_concrete(tensor) else None


def logits_before_softmax(probabilities: Tensor) -> Tensor | None:
    """The logits from which probabilities were computed, if the graph contains them."""
    if is_concrete(probabilities):
        # Stored there by Keras's softmax.
        return getattr(probabilities, "_keras_logits", None)
    return probabilities.op.inputs[0] if operation_type(probabilities) == "Softmax" else None


def log_probabilities(
    y_pred: Tensor, used: Tensor | None, from_logits: bool, wording: Wording = WORDING
) -> Tensor:
    """The log-probabilities of the classes, float32 (float64 for float64 predictions).

    That of a probability is at least the logarithm of the smallest normal number. Predictions that
    are not in use have no influence, even NaN. Where values are unknown, predictions in use that
    are negative or do not sum to 1 become NaN.

    Args:
        y_pred: probabilities or logits, `(batch, time, classes)`.
        used: boolean, `(batch, time)`; None: all.
        from_logits: whether `y_pred` are logits.
        wording: of messages.

    Raises:
        ValueError: see `check_predictions`.
    """
    check_predictions(y_pred, used, from_logits, wording)
    if not from_logits:
        behind = logits_before_softmax(y_pred)
        if behind is not None:
            y_pred, from_logits = ops.convert_to_tensor(behind), True
    # Half precision has two or three digits per logit, too few for sums over many steps.
    dtype = keras.backend.standardize_dtype(y_pred.dtype)
    dtype = "float64" if dtype == "float64" else "float32"
    scores = ops.cast(y_pred, dtype)
    if used is not None:
        scores = ops.where(ops.expand_dims(used, -1), scores, 1 / scores.shape[-1])
    if from_logits:
        return ops.maximum(ops.log_softmax(scores, axis=-1), NEVER)
    valid = (ops.abs(ops.sum(scores, axis=-1) - 1) <= TOLERANCE) & ops.all(scores >= 0, axis=-1)
    log_p = ops.log(ops.maximum(scores, float(np.finfo(dtype).tiny)))
    return ops.where(ops.expand_dims(valid, -1), log_p, np.nan)
