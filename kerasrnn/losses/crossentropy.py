"""The cross-entropy of sequences of ids, with label smoothing and padding."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.predictions import (
    TOLERANCE,
    check_predictions,
    logits_before_softmax,
    values_in_use,
)
from kerasrnn.keras_internals import scale_loss_for_distribution
from kerasrnn.losses.structured import tokens_of
from kerasrnn.losses.weights import as_ids, mask_of, weigh
from kerasrnn.validation import Rate

Tensor = Any


@validation.checked
def sequence_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    label_smoothing: Rate = 0.0,
    from_logits: bool = False,
    ignore_class: int | None = None,
) -> Tensor:
    """The cross-entropy per token, which `SequenceCrossentropy` averages.

    Args:
        y_true: ids, `(batch, time)`.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        label_smoothing: epsilon, in [0, 1).
        from_logits: whether `y_pred` are logits.
        ignore_class: the id of padding; None: every id is a class.

    Returns:
        `(batch, time)`, float32 (float64 for float64 predictions), in nats; 0 if the target is
        padding. Neither masks nor weights are applied.

    Raises:
        ValueError: the shapes do not match, a target is not a class, or the predictions contradict
            `from_logits`: see `SequenceCrossentropy`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.1, 0.8, 0.1], [0.5, 0.25, 0.25]]], "float32")
        >>> y = np.array([[1, 0]])
        >>> loss = kerasrnn.losses.sequence_crossentropy(y, p, ignore_class=0)
        >>> [round(nats, 4) for nats in np.asarray(loss)[0].tolist()]      # -log(0.8), and padding
        [0.2231, 0.0]
    """
    y_pred = validation.tensor("y_pred", y_pred)
    ids = as_ids(y_true, y_pred)
    used = None if ignore_class is None else ids != ignore_class
    return losses_of(ids, y_pred, used, label_smoothing, from_logits, ignore_class)


def losses_of(
    ids: Tensor,
    y_pred: Tensor,
    used: Tensor | None = None,
    label_smoothing: float = 0.0,
    from_logits: bool = False,
    ignore_class: int | None = None,
    estimated: bool = False,
) -> Tensor:
    """The cross-entropy of the tokens in use, and 0 for the others, regardless of the predictions.

    Args:
        ids: the targets, `(batch, time)`, as `as_ids` returns them.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        used: boolean, `(batch, time)`; None: all tokens.
        label_smoothing: epsilon, in [0, 1).
        from_logits: whether `y_pred` are logits.
        ignore_class: the class excluded from label smoothing, or None.
        estimated: whether a `kerasrnn.SampledSoftmax` may estimate them, in training.
    """
    tensor, behind = y_pred, tokens_of(y_pred)
    classes = ops.shape(tensor)[-1] if len(tensor.shape) == 3 else 0
    if classes is None or (isinstance(classes, int) and classes < 2):
        raise ValueError(
            f"y_pred of the shape {tuple(tensor.shape)}: expected (batch, time, classes), with two "
            "classes or more."
        )
    _check_targets(ids, used, classes)
    if behind is not None:
        _check_options(label_smoothing, from_logits)
        inside = ops.clip(ids, 0, classes - 1)
        losses = (behind.losses if estimated else behind.exact_losses)(inside, used)
        return _of_known(losses, ids, used, classes)
    check_predictions(tensor, used, from_logits)
    if not from_logits:
        behind = logits_before_softmax(tensor)
        if behind is not None:
            tensor, from_logits = ops.convert_to_tensor(behind), True
    # Half precision has two or three digits per logit, too few for a sum over thousands of classes.
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    scores = ops.cast(tensor, "float64" if dtype == "float64" else "float32")
    if not from_logits:
        valid = (ops.abs(ops.sum(scores, axis=-1) - 1) <= TOLERANCE) & ops.all(scores >= 0, axis=-1)
    if used is not None:
        # Excluded tokens get no gradient: the gradient at NaN would be NaN. XLA recognizes that the
        # values are equal, and removes the selection.
        scores = ops.where(ops.expand_dims(used, -1), scores, ops.stop_gradient(scores))
    if not from_logits:
        scores = ops.log(ops.maximum(scores, keras.config.epsilon()))
    # q' per class. A comparison rather than a lookup: XLA fuses it with the sums over the classes,
    # forward and backward, and the only new array of the logits' size is their gradient.
    is_target = ops.expand_dims(ids, -1) == ops.arange(classes, dtype="int32")
    if label_smoothing:
        q = (1 - label_smoothing) * ops.cast(is_target, scores.dtype)
        q = q + label_smoothing * _smoothing_distribution(classes, ignore_class, scores.dtype)
        # A class with q' = 0 contributes nothing, even if its logit is -inf.
        losses = -ops.sum(ops.where(q > 0, q * scores, 0), axis=-1)
    else:
        losses = -ops.sum(ops.where(is_target, scores, 0), axis=-1)
    if from_logits:
        losses = losses + ops.logsumexp(scores, axis=-1)
    else:
        # No error can be raised in a graph; NaN cannot be overlooked.
        losses = ops.where(valid, losses, np.nan)
    return _of_known(losses, ids, used, classes)


def _of_known(losses: Tensor, ids: Tensor, used: Tensor | None, classes: Any) -> Tensor:
    """The losses; NaN if the target is not a class, and 0 if it is not in use."""
    losses = ops.where((ids >= 0) & (ids < classes), losses, np.nan)
    return losses if used is None else ops.where(used, losses, 0)


def _check_options(label_smoothing: float, from_logits: bool) -> None:
    """Raise ValueError unless the loss of a large softmax has them."""
    if label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing!r}: expected 0 for the output of a "
            "kerasrnn.AdaptiveSoftmax or SampledSoftmax, whose loss does not compute all classes."
        )
    if from_logits:
        raise ValueError(
            "from_logits=True: expected False; y_pred is the output of a kerasrnn.AdaptiveSoftmax "
            "or SampledSoftmax, which are probabilities."
        )


def _check_targets(ids: Tensor, used: Tensor | None, classes: Any) -> None:
    """Raise ValueError if a target in use is not a class, if the values are known."""
    known = values_in_use(used, ids)
    if known is None:
        return
    (values,) = known
    wrong = values[(values < 0) | (values >= classes)]
    if wrong.size:
        raise ValueError(
            f"y_true: expected ids from 0 to {classes - 1}; found {wrong[0]}. If padding has "
            "another id, set ignore_class to it."
        )


def _smoothing_distribution(classes: Any, ignore_class: int | None, dtype: str) -> Tensor:
    """u(k): equal for every class except padding."""
    if not isinstance(classes, int):
        raise ValueError("label_smoothing: expected 0 for an unknown number of classes.")
    u = np.ones(classes)
    if ignore_class is not None and 0 <= ignore_class < classes:
        u[ignore_class] = 0
    return ops.convert_to_tensor(u / u.sum(), dtype=dtype)


@keras.saving.register_keras_serializable(package="kerasrnn")
class SequenceCrossentropy(keras.losses.Loss):
    """The cross-entropy of sequences of ids, averaged without padding.

    With label smoothing (Szegedy et al. 2016, "Rethinking the Inception architecture for computer
    vision", section 7), for the target y_t and K classes:

        q'(k) = (1 - epsilon) [k = y_t] + epsilon u(k)
        l_t = - sum_k q'(k) log p_t(k)
        L = sum_bt w_bt l_bt / sum_bt w_bt               average="token"
        L = sum_b w_b sum_t l_bt / sum_b w_b             average="sequence"

    The weights w are 1, times the given weights, and 0 for what is excluded: masked steps, padding,
    and weights of 0. The exponential of the loss with "token" is the perplexity. Without smoothing,
    "sequence" is the negative log-likelihood of a sequence: long sequences have more influence, and
    the loss and its gradients are larger by the mean length.

    u is uniform: u(k) = 1 / K, as in the paper. If `ignore_class` is one of the classes, its
    probability is 0, and that of the others is u(k) = 1 / (K - 1).

    Everything is computed in float32, for predictions of any precision.

    For the output of a `kerasrnn.AdaptiveSoftmax`, only the clusters of the targets are computed,
    and for that of a `kerasrnn.SampledSoftmax` in training only the samples; both without label
    smoothing.

    Differences from `keras.losses.SparseCategoricalCrossentropy` (Keras 3.15): that loss has no
    label smoothing. It divides by the number of tokens that are not masked, or not of its
    `ignore_class`, but if only weights exclude tokens, by the number of all tokens, unless
    reduction="mean_with_sample_weight". Weights of rows, `(batch,)`, do not fit its losses `(batch,
    time)`: they raise an error, or, if there are as many rows as steps, weight the steps. It cannot
    average over sequences.

    Args:
        label_smoothing: epsilon, in [0, 1): the part of the target's probability that is
            distributed over all classes.
        average: "token" or "sequence".
        from_logits: whether the predictions are logits. Otherwise they are probabilities; those
            below `keras.config.epsilon()` are raised to it, and have no gradient. On TensorFlow
            the logits before a softmax are used where Keras's own losses use them: for the output
            of Keras's softmax, and in a graph, as in `fit`, for any final softmax. Then no
            probability is raised.
        ignore_class: the id of padding: such targets are excluded. None: every id is a class, and
            only masks and weights exclude tokens.
        name: name of the loss.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Returns:
        A scalar, in nats; 0 if everything is excluded. `fit` reports its mean over the batches,
        weighted by their numbers of rows: for the average over all tokens, see
        `kerasrnn.metrics.Perplexity`. With a `tf.distribute` strategy, it is the mean over the
        replicas.

    Masking: if the predictions have a mask, its masked steps are excluded, as are targets that are
    padding. A fully excluded row has no influence.

    Predictions at excluded steps, even NaN, have no influence on the loss or its gradient.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, a target is not a
            class, or the predictions contradict `from_logits`: with False, they are negative, do
            not sum to 1, or come from a layer that adds a bias and has no activation; with True,
            all of them are probabilities, or come from a softmax. Values are checked in eager
            calls. In a graph or under `jit`, where they are unknown, the loss is NaN if a target
            in use is not a class, or if predictions in use are negative or do not sum to 1 with
            `from_logits=False`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.1, 0.8, 0.1], [0.0, 0.5, 0.5]], [[0.2, 0.6, 0.2], [0.4, 0.3, 0.3]]])
        >>> y = np.array([[1, 2], [1, 0]])
        >>> loss = kerasrnn.losses.SequenceCrossentropy(ignore_class=0)
        >>> round(float(loss(y, p)), 4)           # -log(0.8 * 0.5 * 0.6) / 3
        0.4757
        >>> loss = kerasrnn.losses.SequenceCrossentropy(average="sequence", ignore_class=0)
        >>> round(float(loss(y, p)), 4)           # -log(0.8 * 0.5 * 0.6) / 2
        0.7136
    """

    @validation.checked
    def __init__(
        self,
        label_smoothing: Rate = 0.0,
        average: Literal["token", "sequence"] = "token",
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "sequence_crossentropy",
    ) -> None:
        super().__init__(name=name, reduction=None)  # `average` is the reduction
        self.label_smoothing = label_smoothing
        self.average = average
        self.from_logits = from_logits
        self.ignore_class = ignore_class

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return sequence_crossentropy(
            y_true, y_pred, self.label_smoothing, self.from_logits, self.ignore_class
        )

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        y_pred = ops.convert_to_tensor(y_pred)
        ids = as_ids(y_true, y_pred)
        dtype = keras.backend.standardize_dtype(y_pred.dtype)
        dtype = "float64" if dtype == "float64" else "float32"
        tokens, counted = self._weigh(ids, y_pred, sample_weight, dtype)
        used = tokens != 0
        if mask_of(y_pred) is None and sample_weight is None and self.ignore_class is None:
            used = None  # saves a pass over the logits
        losses = losses_of(
            ids,
            y_pred,
            used,
            self.label_smoothing,
            self.from_logits,
            self.ignore_class,
            estimated=True,
        )
        total = ops.sum(tokens * losses)
        return scale_loss_for_distribution(ops.divide_no_nan(total, ops.sum(counted)))

    def denominator(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The denominator of the loss: the number of tokens or sequences, or their total weight.

        It allows averaging the losses of parts of a batch to that of the batch.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        return ops.sum(self._weigh(as_ids(y_true, y_pred), y_pred, sample_weight, "float32")[1])

    def _weigh(
        self, ids: Tensor, y_pred: Tensor, sample_weight: Tensor | None, dtype: str
    ) -> tuple[Tensor, Tensor]:
        """The weights of the tokens, and of the items of the average."""
        tokens, rows = weigh(ids, mask_of(y_pred), sample_weight, self.ignore_class, dtype)
        return tokens, tokens if self.average == "token" else rows

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "average": self.average,
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "name": self.name,
        }
