"""The loss of a conditional random field."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.keras_internals import is_concrete, scale_loss_for_distribution
from kerasrnn.losses.structured import Structure, is_stand_in, structure_of
from kerasrnn.losses.weights import as_ids, weights_of_rows

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class CRFLoss(keras.losses.Loss):
    """The negative log-likelihood of the tags, for models that end in a `kerasrnn.CRF`.

        l_b = - log p(y_b | x_b)
        L = sum_b w_b l_b / sum_b w_b                average="sequence"
        L = sum_b w_b l_b / sum_b w_b T_b            average="token"

    for rows of T_b valid steps, with the weights w: 1, times the given weights, and 0 for rows
    without valid steps. The likelihood is that of all tags of a row together, which the layer's
    output, the marginal probabilities, does not determine: the layer attaches the distribution to
    its output. The loss is therefore computed where the model is called, as `fit`, `evaluate` and
    `train_on_batch` do, and not from the arrays that `predict` returns: for these, see
    `CRF.log_likelihood`.

    Args:
        average: "sequence" or "token".
        name: name of the loss.

    Call arguments:
        y_true: the numbers of the tags, `(batch, time)`; any at masked steps.
        y_pred: the output of a `CRF`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`.

    Returns:
        A scalar, in nats; 0 if no row has a valid step. With a `tf.distribute` strategy, it is the
        mean over the replicas.

    Masking: masked steps are skipped, as in the layer. A fully masked row has no influence.

    Raises:
        ValueError: `y_pred` is not the output of a `CRF`; the shapes do not match; there are
            weights of single steps; a target is not a tag, or the tags of a row are not allowed.
            Values are checked in eager calls. In a graph or under `jit`, where they are unknown,
            the loss is NaN for a target that is not a tag, and infinite for tags that are not
            allowed.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y = kerasrnn.CRF(2)(np.log([[[0.8, 0.2], [0.5, 0.5]]]).astype("float32"))
        >>> loss = kerasrnn.losses.CRFLoss()
        >>> round(float(loss(np.array([[0, 1]]), y)), 4)     # -log(0.8 * 0.5), without transitions
        0.9163
    """

    @validation.checked
    def __init__(
        self, average: Literal["sequence", "token"] = "sequence", name: str = "crf_loss"
    ) -> None:
        super().__init__(name=name, reduction=None)  # `average` is the reduction
        self.average = average

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The negative log-likelihood of each row, `(batch,)`."""
        return -_structure_of(y_pred).log_likelihood(as_ids(y_true, y_pred))

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        if is_stand_in(y_pred):
            return ops.zeros((), y_pred.dtype)
        rows, counted = self._weigh(y_pred, sample_weight)
        losses = self.call(y_true, y_pred)
        _check_allowed(losses)
        total = ops.sum(rows * ops.where(rows != 0, losses, 0))
        return scale_loss_for_distribution(ops.divide_no_nan(total, ops.sum(counted)))

    def denominator(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The denominator of the loss: the number of rows or steps, or their total weight."""
        return ops.sum(self._weigh(y_pred, sample_weight)[1])

    def _weigh(self, y_pred: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weights of the rows, and of what the average is over."""
        lengths = ops.sum(ops.cast(_structure_of(y_pred).mask, y_pred.dtype), axis=1)
        rows = ops.cast(lengths > 0, y_pred.dtype)
        if sample_weight is not None:
            rows = rows * weights_of_rows(sample_weight, y_pred.shape[0], y_pred.dtype)
        return rows, rows if self.average == "sequence" else rows * lengths

    def get_config(self) -> dict[str, Any]:
        return {"average": self.average, "name": self.name}


def _structure_of(y_pred: Tensor) -> Structure:
    structure = structure_of(y_pred)
    if structure is None:
        raise ValueError(
            f"y_pred, a {type(y_pred).__name__} of the shape {tuple(y_pred.shape)}, is not the "
            "output of a kerasrnn.CRF; expected the output itself, where the model is called: as "
            "the last layer of a model in fit, or crf(scores). For arrays, use "
            "crf.log_likelihood(scores, tags, mask)."
        )
    return structure


def _check_allowed(losses: Tensor) -> None:
    """Raise ValueError if the likelihood of a row is known to be 0."""
    values = validation.known(losses) if is_concrete(losses) else None
    if values is not None and np.isposinf(values).any():
        raise ValueError(
            f"y_true: the tags of row {np.isposinf(values).argmax()} are not allowed by the scheme "
            "or the forbidden pairs of the CRF; expected tags that are. If they are right, train "
            "with another scheme, or without one."
        )
