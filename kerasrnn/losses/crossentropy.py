"""The cross-entropy of sequences of ids, with label smoothing, of the tokens that count."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.keras_internals import scale_loss_for_distribution
from kerasrnn.losses.weights import as_ids, is_concrete, mask_of, weigh
from kerasrnn.validation import Rate

Tensor = Any

TOLERANCE = 0.01
"""How far the sum of probabilities may be from 1; half precision needs most of it."""


@validation.checked
def sequence_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    label_smoothing: Rate = 0.0,
    from_logits: bool = False,
    ignore_class: int | None = None,
) -> Tensor:
    """The cross-entropy of each token: what `SequenceCrossentropy` averages.

    Args:
        y_true: ids, `(batch, time)`.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        label_smoothing: epsilon, in [0, 1).
        from_logits: whether `y_pred` are logits.
        ignore_class: the id of padding; None: every id is a class.

    Returns:
        `(batch, time)`, float32 (float64 for float64 predictions), in nats; 0 where the target is
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
) -> Tensor:
    """The cross-entropy of the tokens in use, and 0 for the others, whatever is predicted there.

    Args:
        ids: the targets, `(batch, time)`, as `as_ids` returns them.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        used: boolean, `(batch, time)`; None: all of them.
        label_smoothing: epsilon, in [0, 1).
        from_logits: whether `y_pred` are logits.
        ignore_class: the class that label smoothing leaves out, or None.
    """
    tensor = y_pred
    classes = tensor.shape[-1]
    if len(tensor.shape) != 3 or classes is None or classes < 2:
        raise ValueError(
            f"y_pred of the shape {tuple(tensor.shape)}: expected (batch, time, classes), with two "
            "classes or more."
        )
    _check_targets(ids, used, classes)
    _check_predictions(tensor, used, from_logits)
    if not from_logits:
        behind = _behind_softmax(tensor)
        if behind is not None:
            tensor, from_logits = ops.convert_to_tensor(behind), True
    # Half precision holds two or three digits of a logit, too few for the sum of thousands.
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    scores = ops.cast(tensor, "float64" if dtype == "float64" else "float32")
    if not from_logits:
        valid = (ops.abs(ops.sum(scores, axis=-1) - 1) <= TOLERANCE) & ops.all(scores >= 0, axis=-1)
    if used is not None:
        # No gradient comes to what is left out, where that of NaN would be NaN. XLA sees that the
        # values are the same, and passes over them.
        scores = ops.where(ops.expand_dims(used, -1), scores, ops.stop_gradient(scores))
    if not from_logits:
        scores = ops.log(ops.maximum(scores, keras.config.epsilon()))
    # q', class by class. It is compared and not looked up: XLA fuses that with the sums over the
    # classes, there and back, and writes out nothing of the logits' size but their gradient.
    is_target = ops.expand_dims(ids, -1) == ops.arange(classes, dtype="int32")
    if label_smoothing:
        q = (1 - label_smoothing) * ops.cast(is_target, scores.dtype)
        q = q + label_smoothing * _u(classes, ignore_class, scores.dtype)
        # A class that has nothing of q' adds nothing, also if its logit is -inf.
        losses = -ops.sum(ops.where(q > 0, q * scores, 0), axis=-1)
    else:
        losses = -ops.sum(ops.where(is_target, scores, 0), axis=-1)
    if from_logits:
        losses = losses + ops.logsumexp(scores, axis=-1)
    else:
        # In a graph nothing can be raised: NaN is what cannot be overlooked.
        losses = ops.where(valid, losses, np.nan)
    losses = ops.where((ids >= 0) & (ids < classes), losses, np.nan)
    return losses if used is None else ops.where(used, losses, 0)


def _check_targets(ids: Tensor, used: Tensor | None, classes: int) -> None:
    """Raise ValueError if a target in use is not a class, where the values are known."""
    known = _values(used, ids)
    if known is None:
        return
    (found,) = known
    wrong = found[(found < 0) | (found >= classes)]
    if wrong.size:
        raise ValueError(
            f"y_true: expected ids from 0 to {classes - 1}; found {wrong[0]}. The id of padding is "
            "given as ignore_class."
        )


def _check_predictions(y_pred: Tensor, used: Tensor | None, from_logits: bool) -> None:
    """Raise ValueError if the predictions are not what `from_logits` says.

    By the operation that made them in a graph of TensorFlow, by their values where these are known.
    """
    if from_logits and _behind_softmax(y_pred) is not None:
        raise ValueError(
            "from_logits=True: expected logits; y_pred is the output of a softmax. Set "
            "from_logits=False."
        )
    if not from_logits and _made_by(y_pred) == "BiasAdd":
        raise ValueError(
            "from_logits=False: expected probabilities; y_pred is the output of a layer without an "
            "activation. Set from_logits=True, or add a softmax."
        )
    if not is_concrete(y_pred) or 0 in y_pred.shape:
        return
    scores = ops.cast(y_pred, "float32")
    known = _values(used, ops.sum(scores, axis=-1), ops.min(scores, axis=-1))
    if known is None:
        return
    sums, least = known
    if from_logits:
        if sums.size and (least >= 0).all() and (np.abs(sums - 1) < 1e-3).all():
            raise ValueError(
                "from_logits=True: expected logits; y_pred holds probabilities, none negative and "
                "at each step with the sum 1. Set from_logits=False."
            )
        return
    # Comparisons with NaN are False: a model that diverged is another matter.
    if (least < 0).any():
        found = f"the value {np.nanmin(least):.4g}"
    elif (np.abs(sums - 1) > TOLERANCE).any():
        found = f"the sum {sums[np.abs(sums - 1) > TOLERANCE][0]:.4g}"
    else:
        return
    raise ValueError(
        "from_logits=False: expected probabilities in y_pred, none negative and at each step with "
        f"the sum 1; found {found}. Logits need from_logits=True."
    )


def _values(used: Tensor | None, *tensors: Tensor) -> "list[np.ndarray] | None":
    """The values of the tokens in use, `(tokens,)`; None where they are not known."""
    if not all(is_concrete(tensor) for tensor in (*tensors, used) if tensor is not None):
        return None
    arrays = [ops.convert_to_numpy(tensor) for tensor in tensors]
    place = slice(None) if used is None else ops.convert_to_numpy(used)
    return [array[place] for array in arrays]


def _made_by(tensor: Tensor) -> str | None:
    """The type of the operation that a tensor of TensorFlow's graph is the output of."""
    return getattr(getattr(tensor, "op", None), "type", None) if not is_concrete(tensor) else None


def _behind_softmax(probabilities: Tensor) -> Tensor | None:
    """The logits that probabilities were made of, where TensorFlow knows them."""
    if is_concrete(probabilities):
        # Keras's softmax has left them there.
        return getattr(probabilities, "_keras_logits", None)
    return probabilities.op.inputs[0] if _made_by(probabilities) == "Softmax" else None


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

    The weights w are 1, times those that are given, and 0 for what is left out: masked steps,
    padding, and weights of 0. "token" is the loss that perplexity is the exponential of.
    "sequence" is, without smoothing, minus the log-likelihood of a sequence: long ones count for
    more, and the numbers, with the gradients, are larger by the mean length.

    u is the same for all classes: u(k) = 1 / K, as in the paper. With an `ignore_class` among them
    that class gets nothing, and the others u(k) = 1 / (K - 1).

    All of it is computed in float32, whatever the precision of the predictions.

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
            below `keras.config.epsilon()` are raised to it, and have no gradient. On TensorFlow
            the logits behind a softmax are used where Keras's own losses use them: the output of
            Keras's softmax, and in a graph, as in `fit`, of any softmax that comes last. Then
            nothing is raised.
        ignore_class: the id of padding: such targets are left out. None: every id is a class, and
            masks and weights alone say what is left out.
        name: of the loss.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Returns:
        A number, in nats; 0 if everything is left out. What `fit` shows is its mean over the
        batches, each with the weight of its number of rows: for the average over all tokens, see
        `kerasrnn.metrics.Perplexity`. Between the replicas of a `tf.distribute` strategy it is the
        mean of theirs.

    Masking: where the predictions carry a mask, the steps that it masks are left out, as are the
    targets that are padding. A row with nothing left counts for nothing.

    What is predicted at steps that are left out has no influence on the loss or its gradient, NaN
    included.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, a target is not a
            class, or the predictions contradict `from_logits`: with False, they are negative, have
            sums other than 1, or come from a layer that adds a bias and has no activation; with
            True, all of them are probabilities, or come from a softmax. Values are checked in eager
            calls. In a graph or under `jit`, where they are not known, the loss is NaN if a target
            that counts is not a class, or if predictions that count are negative or have another
            sum than 1 with `from_logits=False`.

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
            used = None  # spares a pass over the logits
        losses = losses_of(
            ids, y_pred, used, self.label_smoothing, self.from_logits, self.ignore_class
        )
        total = ops.sum(tokens * losses)
        return scale_loss_for_distribution(ops.divide_no_nan(total, ops.sum(counted)))

    def denominator(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """What the loss divides by: how many tokens, or sequences, count, or their weight.

        With it, the losses of a batch's parts are averaged to that of the whole.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        return ops.sum(self._weigh(as_ids(y_true, y_pred), y_pred, sample_weight, "float32")[1])

    def _weigh(
        self, ids: Tensor, y_pred: Tensor, sample_weight: Tensor | None, dtype: str
    ) -> tuple[Tensor, Tensor]:
        """The weights of the tokens, and of what is averaged over."""
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
