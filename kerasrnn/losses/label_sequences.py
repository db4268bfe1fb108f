"""What losses of label sequences share: targets, masks, weights of rows, reductions."""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.alignment import left_aligned
from kerasrnn.decoding.predictions import values_in_use
from kerasrnn.keras_internals import scale_loss_for_distribution
from kerasrnn.losses.weights import weights_of_rows
from kerasrnn.recurrence import log_semiring

Tensor = Any
Impossible = Literal["warn", "zero"]
Reduction = Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"] | None

SHOWN = 5
"""The number of rows that a warning describes."""


class LabelSequenceLoss(keras.losses.Loss):
    """The base class of losses that have one number for each row, of all its labels together."""

    def __init__(self, blank: int, impossible: Impossible, reduction: Reduction, name: str) -> None:
        super().__init__(name=name, reduction=reduction)
        self.blank = blank
        self.impossible = impossible

    def denominator(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The denominator of the loss: the number of rows, or the sum of their weights.

        It allows averaging the losses of parts of a batch to that of the batch.

        Raises:
            ValueError: the reduction is not a mean.
        """
        if self.reduction in ("sum", "none", None):
            raise ValueError(
                f"reduction={self.reduction!r}: expected 'sum_over_batch_size' or another mean for "
                "batches that are split."
            )
        if self.reduction == "mean_with_sample_weight" and sample_weight is not None:
            return ops.sum(self._weights(sample_weight, y_pred, "float32"))
        return ops.cast(ops.shape(y_pred)[0], "float32")

    def _weights(self, sample_weight: Any, y_pred: Tensor, dtype: Any) -> Tensor | None:
        if sample_weight is None:
            return None
        return weights_of_rows(
            sample_weight, y_pred.shape[0], keras.backend.standardize_dtype(dtype)
        )

    def _completed(
        self, losses: Tensor, impossible: Tensor, valid: Tensor, weights: Tensor | None
    ) -> Tensor:
        """The losses of the rows, of which some are impossible or have no valid target, reduced."""
        # Where no path has a probability, as with logits of minus infinity.
        losses = ops.where(log_semiring.possible(-losses), losses, np.inf)
        losses = ops.where(impossible, np.inf if self.impossible == "warn" else 0.0, losses)
        return self._reduced(ops.where(valid, losses, np.nan), weights)

    def _reduced(self, losses: Tensor, weights: Tensor | None) -> Tensor:
        if weights is not None:
            losses = ops.where(weights == 0, 0, losses * weights)
        if self.reduction in ("none", None):
            return losses
        total = ops.sum(losses)
        if self.reduction == "sum":
            return total
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            divisor = ops.sum(weights)
        else:
            divisor = ops.cast(ops.shape(losses)[0], losses.dtype)
        return scale_loss_for_distribution(ops.divide_no_nan(total, divisor))

    def get_config(self) -> dict[str, Any]:
        return {
            "blank": self.blank,
            "impossible": self.impossible,
            "reduction": self.reduction,
            "name": self.name,
        }


class Labels(NamedTuple):
    """The labels of each row, padded with the blank."""

    ids: Tensor
    """`(batch, width)`: one more than the columns of the targets, so there is always one."""

    lengths: Tensor
    """`(batch,)`"""

    valid: Tensor
    """Boolean `(batch,)`: whether all of them are classes."""


def labels_of(y_true: Tensor, y_pred: Tensor, blank: int, classes: int | None) -> Labels:
    """The targets as labels; blanks and negative ids are padding, at any position.

    Args:
        y_true: `(batch, labels)`.
        y_pred: the predictions, `(batch, ...)`.
        blank: the class of the blank.
        classes: number of classes; None: unknown.

    Raises:
        ValueError: the shapes do not match, or a target is known not to be a class.
    """
    ids = validation.ids("y_true", y_true)
    if len(ids.shape) != 2 or not (
        None in (ids.shape[0], y_pred.shape[0]) or ids.shape[0] == y_pred.shape[0]
    ):
        raise ValueError(
            f"y_true of the shape {tuple(ids.shape)}: expected ids (batch, labels), for y_pred of "
            f"the shape {tuple(y_pred.shape)}."
        )
    is_label = (ids >= 0) & (ids != blank)
    valid = ops.ones(ops.shape(ids)[:1], dtype="bool")
    if classes is not None:
        known = values_in_use(None, ids)
        if known is not None and known[0].size and known[0].max() >= classes:
            raise ValueError(
                f"y_true: expected ids from 0 to {classes - 1}, padded with the blank, {blank}, or "
                f"with negative ids; found {known[0].max()}."
            )
        valid = ops.all(ids < classes, axis=1)
        ids = ops.where(ids < classes, ids, blank)
    (ids,), lengths = left_aligned(is_label, [ids], [blank])
    return Labels(ops.pad(ids, ((0, 0), (0, 1)), constant_values=blank), lengths, valid)


def checked_mask(mask: Tensor, y_pred: Tensor) -> Tensor:
    """The mask of predictions, boolean `(batch, time)`."""
    mask = ops.convert_to_tensor(mask)
    if len(mask.shape) != 2 or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(mask.shape, y_pred.shape[:2], strict=True)
    ):
        raise ValueError(
            f"mask of the shape {tuple(mask.shape)}: expected (batch, time), for y_pred of the "
            f"shape {tuple(y_pred.shape)}."
        )
    return ops.cast(mask, "bool")
