"""The loss of a transducer: label sequences without an alignment, each given those before it."""

import warnings
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.alignment import after_label
from kerasrnn.decoding.predictions import TOLERANCE, Wording, log_probabilities, values_in_use
from kerasrnn.losses.host import call_where
from kerasrnn.losses.label_sequences import (
    SHOWN,
    Impossible,
    Labels,
    LabelSequenceLoss,
    Reduction,
    checked_mask,
    labels_of,
)
from kerasrnn.losses.weights import mask_of
from kerasrnn.recurrence import dynamic, log_semiring
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import NonNegativeInteger
from kerasrnn.wording import counted

Tensor = Any
Predictions = Literal["moves", "logits", "probabilities"]

WORDING = Wording(logits="predictions='logits'", probabilities="predictions='probabilities'")


# `kerasrnn.Transducer`, the layer, is registered under the name of the class.
@keras.saving.register_keras_serializable(package="kerasrnn", name="TransducerLoss")
class Transducer(LabelSequenceLoss):
    """The negative log-likelihood of label sequences, for models that end in a transducer.

    A path goes through a lattice of T frames and U labels, from the node (0, 0) to (T, U). At a
    node (t, u), t frames are read and the labels l_1 ... l_u are written. From there, the blank
    leads to the next frame, (t + 1, u), and the label l_{u+1} to (t, u + 1): any number of labels
    may be written at a frame. The likelihood is the sum over all paths (Graves 2012, "Sequence
    transduction with recurrent neural networks"):

        L = -log sum_π prod_{n in π} p(move_n | t_n, u_n)

    The forward variable α(t, u) is the log-probability of all paths to a node. With a ⊕ b =
    log(e^a + e^b),

        α(t, u) = (α(t-1, u) + log p(blank | t-1, u)) ⊕ (α(t, u-1) + log p(l_u | t, u-1))
        L = -α(T, U)

    with α(0, 0) = 0. The nodes of an anti-diagonal, t + u = n, depend on those of the one before
    alone: a recursion over n computes all of them at once, in a scan of T + U steps. It stores two
    numbers for each node, and so does its gradient, which is written out:

        dL / d log p(move) = -exp(α(from) + log p(move) + β(to) + L)

    with β(t, u) the log-probability of all paths from a node to the last one. Everything is
    computed in float32, for predictions of any precision.

    Args:
        predictions: what `y_pred` is. "moves", the output of a `kerasrnn.Transducer`: the
            log-probabilities of the blank and of the label that is next, `(batch, time, labels + 1,
            2)`. "logits" or "probabilities" of all classes, `(batch, time, labels + 1, classes)`.
        blank: the class of the blank, which also pads the targets.
        impossible: what happens to a row with labels whose frames are all masked. Its likelihood is
            0. "warn": its loss is infinite, and a warning names the row and its target. "zero": its
            loss is 0. Either way it has no gradient.
        reduction: as in Keras: "sum_over_batch_size" or "mean", the mean over the rows; "sum";
            "mean_with_sample_weight", which divides by the sum of the weights; None or "none", the
            loss of each row.
        name: name of the loss.

    Call arguments:
        y_true: ids, `(batch, labels)`. Blanks and negative ids are padding, at any position. They
            are those that the prediction network has read, whose output at the index u is that
            after u labels.
        y_pred: `(batch, time, labels + 1, ...)`, as described by `predictions`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`. A row of weight 0 has no influence, even
            if it is impossible.

    Returns:
        A scalar, in nats; `(batch,)` without a reduction.

    Masking: the mask of the predictions is that of the frames, `(batch, time)`. Masked frames are
    skipped, at any position, as if they did not exist. Predictions there and beyond the labels of
    a row, even NaN, have no influence.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, a target is not a
            class, or the predictions are not what `predictions` says. Where values are unknown, in
            a graph or under `jit`, the loss is NaN instead.

    Example: one label in two frames. It may be written at either.

        >>> import numpy as np, kerasrnn
        >>> blank, label = np.full((1, 2, 2), 0.9), np.full((1, 2, 2), 0.1)
        >>> moves = np.log(np.stack([blank, label], axis=-1)).astype("float32")
        >>> loss = kerasrnn.losses.Transducer()(np.array([[1]]), moves)
        >>> round(float(np.exp(-loss)), 4)            # 2 * 0.1 * 0.9 * 0.9
        0.162
    """

    @validation.checked
    def __init__(
        self,
        predictions: Predictions = "moves",
        blank: NonNegativeInteger = 0,
        impossible: Impossible = "warn",
        reduction: Reduction = "sum_over_batch_size",
        name: str = "transducer",
    ) -> None:
        super().__init__(blank, impossible, reduction, name)
        self.predictions = predictions

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        mask = mask_of(y_pred)
        y_pred = validation.tensor("y_pred", y_pred)
        classes = self._check_shape(tuple(y_pred.shape))
        labels = labels_of(y_true, y_pred, self.blank, classes)
        if None not in (y_pred.shape[2], labels.ids.shape[1]) and (
            y_pred.shape[2] != labels.ids.shape[1]
        ):
            raise ValueError(
                f"y_pred of the shape {tuple(y_pred.shape)}: expected (batch, time, "
                f"{labels.ids.shape[1]}, ...), one more than the labels of y_true."
            )
        if mask is None:
            used = ops.ones(ops.shape(y_pred)[:2], dtype="bool")
        else:
            used = checked_mask(mask, y_pred)
        places = ops.arange(ops.shape(labels.ids)[1], dtype="int32")
        lengths = ops.expand_dims(labels.lengths, 1)
        nodes = ops.expand_dims(used, 2) & ops.expand_dims(places <= lengths, 1)
        of_blank, of_label = self._moves(labels, y_pred, nodes)
        # A masked frame is passed with the probability 1, and nothing is written there.
        of_blank = ops.where(nodes, of_blank, 0)
        of_label = ops.where(nodes & ops.expand_dims(places < lengths, 1), of_label, NEVER)
        losses = -dynamic.traced(_log_likelihood, of_blank, of_label, labels.lengths)
        impossible = (labels.lengths > 0) & ~ops.any(used, axis=1)
        weights = self._weights(sample_weight, y_pred, losses.dtype)
        if weights is not None:
            impossible = impossible & (weights != 0)
        if self.impossible == "warn":
            call_where(impossible, _warn, impossible, labels.ids, labels.lengths)
        return self._completed(losses, impossible, labels.valid, weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each row, `(batch,)`."""
        return Transducer(self.predictions, self.blank, self.impossible, None)(y_true, y_pred)

    def _check_shape(self, shape: tuple[int | None, ...]) -> int | None:
        """The number of classes, if the shape tells it."""
        if self.predictions == "moves":
            if len(shape) != 4 or shape[-1] != 2:
                raise ValueError(
                    f"predictions='moves': y_pred of the shape {shape}: expected (batch, time, "
                    "labels + 1, 2), the output of a kerasrnn.Transducer. For scores of all "
                    "classes, set predictions='logits' or 'probabilities'."
                )
            return None
        if len(shape) != 4 or shape[-1] is None or shape[-1] < 2:
            raise ValueError(
                f"y_pred of the shape {shape}: expected (batch, time, labels + 1, classes), with "
                "two classes or more."
            )
        if self.blank >= shape[-1]:
            raise ValueError(
                f"blank={self.blank}: expected a class of y_pred, 0 to {shape[-1] - 1}."
            )
        return shape[-1]

    def _moves(self, labels: Labels, y_pred: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probabilities of the blank and of the next label, `(batch, time, labels + 1)`."""
        nodes = ops.broadcast_to(nodes, ops.shape(y_pred)[:3])
        if self.predictions == "moves":
            return _checked_moves(y_pred, nodes, labels.lengths)
        log_p = log_probabilities(y_pred, nodes, self.predictions == "logits", WORDING)
        is_label = ops.expand_dims(labels.ids, -1) == ops.arange(y_pred.shape[-1], dtype="int32")
        # A comparison rather than a lookup, as in the cross-entropy.
        of_label = ops.sum(ops.where(ops.expand_dims(is_label, 1), log_p, 0), axis=-1)
        return log_p[..., self.blank], of_label

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "predictions": self.predictions}


def _checked_moves(y_pred: Tensor, nodes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    dtype = keras.backend.standardize_dtype(y_pred.dtype)
    y_pred = ops.cast(y_pred, "float64" if dtype == "float64" else "float32")
    y_pred = ops.maximum(ops.where(ops.expand_dims(nodes, -1), y_pred, 0), NEVER)
    of_blank, of_label = y_pred[..., 0], y_pred[..., 1]
    places = ops.arange(ops.shape(nodes)[2], dtype="int32")
    labelled = ops.expand_dims(places < ops.expand_dims(lengths, 1), 1)
    total = ops.exp(of_blank) + ops.where(labelled, ops.exp(of_label), 0)
    known = values_in_use(nodes, total)
    if known is not None and (known[0] > 1 + TOLERANCE).any():
        raise ValueError(
            "predictions='moves': expected the log-probabilities of the blank and of the next "
            f"label in y_pred; found some that sum to {known[0].max():.4g}."
        )
    of_blank = ops.where(nodes & (total > 1 + TOLERANCE), np.nan, of_blank)
    return of_blank, of_label


def _log_likelihood(of_blank: Tensor, of_label: Tensor, lengths: Tensor) -> Tensor:
    """The log-likelihood of each row.

    Args:
        of_blank: log-probabilities of the blank at each node, `(batch, time, labels + 1)`.
        of_label: those of the next label; `NEVER` where there is none.
        lengths: the number of labels, `(batch,)`.
    """
    # Beyond the last frame, too, the blank has the probability 1: all rows end on one diagonal.
    diagonals = (_diagonals(of_blank, 0.0), _diagonals(of_label, NEVER))
    return dynamic.with_gradient(_forward, _backward, *diagonals, lengths)


def _diagonals(x: Tensor, beyond: float) -> Tensor:
    """`y[n, b, u] = x[b, n - u, u]`, `(time + labels, batch, labels + 1)`.

    Args:
        x: `(batch, time, labels + 1)`.
        beyond: the value where n - u is not a frame.
    """
    x = ops.transpose(x, (0, 2, 1))
    batch, width, time = ops.shape(x)
    count = time + width - 1
    padding = ops.full((batch, width, width), beyond, dtype=x.dtype)
    # With one column more than there are diagonals, each row begins one place later than the last.
    x = ops.reshape(ops.concatenate([x, padding], axis=2), (-1, width * (count + 1)))
    x = ops.reshape(x[:, : width * count], (-1, width, count))
    return ops.transpose(x, (2, 0, 1))


def _forward(of_blank: Tensor, of_label: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
    """See `_log_likelihood`, with the time replaced by the diagonals."""

    def step(alpha: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        blank, label = x
        return log_semiring.add(alpha + blank, after_label(alpha + label)), alpha

    never = ops.full(ops.shape(of_blank)[1:], NEVER, dtype=of_blank.dtype)
    start = ops.where(ops.arange(ops.shape(of_blank)[2]) == 0, ops.zeros_like(never), never)
    last, alphas = dynamic.scan(step, start, (of_blank, of_label))
    likelihood = ops.take_along_axis(last, ops.expand_dims(lengths, 1), axis=1)[:, 0]
    return likelihood, (of_blank, of_label, lengths, alphas, likelihood)


def _backward(residuals: Any, d_likelihood: Tensor) -> tuple[Any, ...]:
    """The gradients: how much of the likelihood is of paths with this move."""
    of_blank, of_label, lengths, alphas, likelihood = residuals
    possible = log_semiring.possible(likelihood)
    total = ops.expand_dims(ops.where(possible, likelihood, 0), 1)
    scale = ops.expand_dims(ops.where(possible, d_likelihood, 0), 1)

    def step(beta: Tensor, x: Any) -> Any:
        blank, label, alpha = x
        by_blank = blank + beta
        by_label = label + ops.pad(beta[:, 1:], ((0, 0), (0, 1)), constant_values=NEVER)
        moves = (ops.exp(alpha + by_blank - total), ops.exp(alpha + by_label - total))
        return log_semiring.add(by_blank, by_label), tuple(scale * p for p in moves)

    places = ops.arange(ops.shape(of_blank)[2], dtype="int32")
    never = ops.full(ops.shape(of_blank)[1:], NEVER, dtype=of_blank.dtype)
    end = ops.where(places == ops.expand_dims(lengths, 1), ops.zeros_like(never), never)
    _, (d_blank, d_label) = dynamic.scan(step, end, (of_blank, of_label, alphas), reverse=True)
    return d_blank, d_label, None


def _warn(impossible: np.ndarray, ids: np.ndarray, lengths: np.ndarray) -> None:
    """Name the rows that have labels and no frames."""
    rows = np.flatnonzero(impossible)
    shown = "; ".join(f"row {row}, {ids[row, : lengths[row]].tolist()}" for row in rows[:SHOWN])
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    warnings.warn(
        f"Transducer: {counted(len(rows), 'row')} of the batch with labels and without frames, "
        f"since all are masked: {shown}{more}. The loss is infinite. Leave such rows out, or set "
        "impossible='zero'.",
        stacklevel=2,
    )
