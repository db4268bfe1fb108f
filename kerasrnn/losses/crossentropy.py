"""The cross-entropy of sequences of ids, with label smoothing, of the tokens that count."""

from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn.keras_internals import scale_loss_for_distribution
from kerasrnn.losses.weights import as_ids, check_ignore_class, mask_of, weigh

Tensor = Any

AVERAGES = ("token", "sequence")


def sequence_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    label_smoothing: float = 0.0,
    from_logits: bool = True,
    ignore_class: int | None = 0,
) -> Tensor:
    """The cross-entropy of each token: what `SequenceCrossentropy` averages.

    Args:
        y_true: ids, `(batch, time)`.
        y_pred: logits or probabilities, `(batch, time, classes)`.
        label_smoothing: epsilon, in [0, 1).
        from_logits: whether `y_pred` are logits.
        ignore_class: the id of padding; or None.

    Returns:
        `(batch, time)`, float32, or float64 of float64: in nats; 0 where the target is padding, NaN
        where it is no class.

    Raises:
        ValueError: the shapes do not fit.

    Example:

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.1, 0.8, 0.1], [0.5, 0.25, 0.25]]], "float32")
        >>> y = np.array([[1, 0]])
        >>> loss = kerasrnn.losses.sequence_crossentropy(y, p, from_logits=False)
        >>> [round(nats, 4) for nats in np.asarray(loss)[0].tolist()]      # -log(0.8), and padding
        [0.2231, 0.0]
    """
    logits = ops.convert_to_tensor(y_pred)
    if not from_logits:
        behind = _behind_softmax(logits)
        if behind is not None:
            logits, from_logits = behind, True
    # Half precision holds two or three digits of a logit, too few for the sum of thousands.
    dtype = keras.backend.standardize_dtype(logits.dtype)
    logits = ops.cast(logits, "float64" if dtype == "float64" else "float32")
    classes = logits.shape[-1]
    if len(logits.shape) != 3 or classes is None or classes < 2:
        raise ValueError(
            f"y_pred of the shape {tuple(logits.shape)}: expected (batch, time, classes), with two "
            "classes or more."
        )
    ids = as_ids(y_true, logits)
    if not from_logits:
        logits = ops.log(ops.maximum(logits, keras.config.epsilon()))
    # q', class by class. It is compared and not looked up: XLA fuses that with the sums over the
    # classes, there and back, and writes out nothing of the logits' size but their gradient.
    is_target = ops.expand_dims(ids, -1) == ops.arange(classes, dtype="int32")
    if label_smoothing:
        q = (1 - label_smoothing) * ops.cast(is_target, logits.dtype)
        q = q + label_smoothing * _u(classes, ignore_class, logits.dtype)
        # A class that has nothing of q' adds nothing, also if its logit is -inf.
        expected = ops.sum(ops.where(q > 0, q * logits, 0), axis=-1)
    else:
        expected = ops.sum(ops.where(is_target, logits, 0), axis=-1)
    losses = ops.logsumexp(logits, axis=-1) - expected
    losses = ops.where((ids >= 0) & (ids < classes), losses, np.nan)
    if ignore_class is not None:
        losses = ops.where(ids != ignore_class, losses, 0)
    return losses


def _behind_softmax(probabilities: Tensor) -> Tensor | None:
    """The logits that probabilities were made of, where TensorFlow's graph knows."""
    made_by = getattr(probabilities, "op", None)  # eager tensors have none
    return made_by.inputs[0] if getattr(made_by, "type", None) == "Softmax" else None


def _u(classes: int, ignore_class: int | None, dtype: str) -> Tensor:
    """u(k): the same for every class but padding."""
    u = np.ones(classes)
    if ignore_class is not None and 0 <= ignore_class < classes:
        u[ignore_class] = 0
    return ops.convert_to_tensor(u / u.sum(), dtype=dtype)


@keras.saving.register_keras_serializable(package="kerasrnn")
class SequenceCrossentropy(keras.losses.Loss):
    """The cross-entropy of sequences of ids, averaged over what is no padding.

    With the label smoothing of Szegedy et al. (2016), "Rethinking the Inception architecture for
    computer vision", section 7, of the target y_t and the K classes:

        q'(k) = (1 - epsilon) [k = y_t] + epsilon u(k)
        l_t = - sum_k q'(k) log p_t(k)
        L = sum_bt w_bt l_bt / sum_bt w_bt               average="token"
        L = sum_b w_b sum_t l_bt / sum_b w_b             average="sequence"

    The weights w are 1, times those that are given, and 0 for what is left out; so a weight of 0
    leaves a token out as padding does. "token" is the loss that perplexity is the exponential of.
    "sequence" is, without smoothing, minus the log-likelihood of a sequence: long ones count for
    more, and the numbers, with the gradients, are larger by the mean length.

    u is the same for all classes but padding, which gets nothing: u(k) = 1 / (K - 1), and
    u(ignore_class) = 0. Where `ignore_class` is none of the classes, u(k) = 1 / K, as in the paper.

    All of it is computed in float32, whatever the precision of the logits.

    How it differs from `keras.losses.SparseCategoricalCrossentropy` (of Keras 3.15): that one has
    no label smoothing. It divides by the number of tokens that are not masked, or not of its
    `ignore_class`, but by the number of all of them where only weights leave some out, unless
    told reduction="mean_with_sample_weight". Weights of rows, `(batch,)`, do not fit its losses
    `(batch, time)`: they are an error, or, with as many rows as steps, weigh the steps. It has no
    average of sequences.

    Args:
        label_smoothing: epsilon, in [0, 1): the part of the target's probability that is given to
            all classes.
        average: "token" or "sequence".
        from_logits: whether the predictions are logits. If not, they are probabilities; those
            below `keras.config.epsilon()` are raised to it, and have no gradient. In a graph of
            TensorFlow, as in `fit`, the logits are taken from behind a softmax that comes last:
            nothing is raised, and nothing is computed twice.
        ignore_class: the id of padding: such targets are left out. None: masks and weights alone
            say what is left out.
        name: of the loss.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: logits or probabilities, `(batch, time, classes)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Returns:
        A number, in nats; 0 if everything is left out, and NaN if a target that counts is no class.
        What `fit` shows is its mean over the batches, each with the weight of its number of rows:
        for the average over all tokens, see `kerasrnn.metrics.Perplexity`. Between the replicas of
        a `tf.distribute` strategy it is the mean of theirs.

    Masking: where the predictions carry a mask, the steps that it masks are left out, as are the
    targets that are padding. A row with nothing left counts for nothing.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not fit.

    Example:

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.1, 0.8, 0.1], [0.0, 0.5, 0.5]], [[0.2, 0.6, 0.2], [0.4, 0.3, 0.3]]])
        >>> y = np.array([[1, 2], [1, 0]])
        >>> loss = kerasrnn.losses.SequenceCrossentropy(from_logits=False)
        >>> round(float(loss(y, p)), 4)           # -log(0.8 * 0.5 * 0.6) / 3
        0.4757
        >>> loss = kerasrnn.losses.SequenceCrossentropy(average="sequence", from_logits=False)
        >>> round(float(loss(y, p)), 4)           # -log(0.8 * 0.5 * 0.6) / 2
        0.7136
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        average: str = "token",
        from_logits: bool = True,
        ignore_class: int | None = 0,
        name: str = "sequence_crossentropy",
    ) -> None:
        if not isinstance(label_smoothing, Real) or not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing!r}: expected a number in [0, 1).")
        if average not in AVERAGES:
            raise ValueError(f"average={average!r}: expected one of 'token', 'sequence'.")
        check_ignore_class(ignore_class)
        super().__init__(name=name, reduction=None)  # `average` says it
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
        losses = self.call(y_true, y_pred)
        dtype = keras.backend.standardize_dtype(losses.dtype)
        tokens, counted = self._weigh(y_true, y_pred, sample_weight, dtype)
        total = ops.sum(ops.where(tokens != 0, tokens * losses, 0))
        return scale_loss_for_distribution(ops.divide_no_nan(total, ops.sum(counted)))

    def denominator(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """What the loss divides by: how many tokens, or sequences, count, or their weight.

        With it, the losses of a batch's parts are averaged to that of the whole.
        """
        return ops.sum(self._weigh(y_true, y_pred, sample_weight, "float32")[1])

    def _weigh(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None, dtype: str
    ) -> tuple[Tensor, Tensor]:
        """The weights of the tokens, and of what is averaged over."""
        ids = as_ids(y_true, y_pred)
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
