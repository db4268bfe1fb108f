"""Connectionist temporal classification: the loss of sequences without an alignment."""

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.alignment import (
    after_label,
    emissions,
    frames_first,
    repeated,
)
from kerasrnn.decoding.predictions import log_probabilities
from kerasrnn.losses.host import call_where
from kerasrnn.losses.label_sequences import (
    SHOWN,
    Impossible,
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


@keras.saving.register_keras_serializable(package="kerasrnn")
class CTC(LabelSequenceLoss):
    """The negative log-likelihood of label sequences whose alignment is unknown.

    A model with an output for each of T frames writes a shorter sequence l_1 ... l_U: each frame is
    a label or the blank, and a path π of T frames is read by dropping repeated labels, then blanks.
    The likelihood of l is the sum over all paths that are read as l (Graves et al. 2006,
    "Connectionist temporal classification: labelling unsegmented sequence data with recurrent
    neural networks"):

        L = -log Σ_π ∏_t p_t(π_t),   the sum over all π with B(π) = l

    It is computed by a recursion over the frames in the log semiring, a ⊕ b = log(e^a + e^b). After
    frame t, φ_t(n) is the log-probability of all paths that have written n labels and end in a
    blank, and ε_t(n) of those that end in label n:

        μ_t(n) = φ_t(n) ⊕ ε_t(n)
        φ_t(n) = μ_{t-1}(n) + log p_t(blank)
        ε_t(n) = (ε_{t-1}(n) ⊕ ν_{t-1}(n-1)) + log p_t(l_n)
        L = -μ_T(U)

    with φ_0(0) = 0, and ν = μ, or ν = φ if l_n = l_{n-1}: two equal labels in a row need a blank
    between them. The gradient is that of the same sums backwards. Everything is computed in
    float32, for predictions of any precision.

    Differences from `keras.losses.CTC` (Keras 3.15): that loss raises an error for predictions with
    a mask, and without one counts padded frames. It expects logits: it would normalize
    probabilities a second time. Its blank is always class 0.

    Args:
        blank: the class of the blank, which also pads the targets.
        from_logits: whether the predictions are logits. Otherwise they are probabilities. On
            TensorFlow the logits before a softmax are used where Keras's own losses use them.
        impossible: what happens to a target that its frames cannot write. It needs a frame for each
            label, and one more for each label that equals the one before it. Its likelihood is 0.
            "warn": its loss is infinite, and a warning names the row and its target. "zero": its
            loss is 0. Either way it has no gradient.
        reduction: as in Keras: "sum_over_batch_size" or "mean", the mean over the rows; "sum";
            "mean_with_sample_weight", which divides by the sum of the weights; None or "none", the
            loss of each row.
        name: name of the loss.

    Call arguments:
        y_true: ids, `(batch, labels)`. Blanks and negative ids are padding, at any position.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`. A row of weight 0 has no influence, even
            if it is impossible.

    Returns:
        A scalar, in nats; `(batch,)` without a reduction.

    Masking: masked frames of the predictions are skipped, at any position, as if they did not
    exist. So the mask gives the number of frames. Predictions there, even NaN, have no influence.

    The warning is a Python warning in eager calls, on PyTorch, in TensorFlow graphs and under
    `jax.jit`. Code that XLA compiles on TensorFlow, as `fit` does by default for many models, and
    `torch.compile`, cannot warn: there, the infinite loss, which `fit` reports, is the only sign.
    A call that is not compiled finds the rows: `CTC(reduction=None)(y_true, y_pred)`.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, a target is not a
            class, or the predictions contradict `from_logits`: see `SequenceCrossentropy`. Where
            values are unknown, in a graph or under `jit`, the loss is NaN instead.

    Example: of the nine paths of two frames, three are read as one label 1: 11, 01 and 10.

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.5, 0.4, 0.1], [0.2, 0.7, 0.1]]], "float32")
        >>> loss = kerasrnn.losses.CTC()(np.array([[1, 0]]), p)
        >>> round(float(np.exp(-loss)), 4)            # 0.4 * 0.7 + 0.5 * 0.7 + 0.4 * 0.2
        0.71
    """

    @validation.checked
    def __init__(
        self,
        blank: NonNegativeInteger = 0,
        from_logits: bool = False,
        impossible: Impossible = "warn",
        reduction: Reduction = "sum_over_batch_size",
        name: str = "ctc",
    ) -> None:
        super().__init__(blank, impossible, reduction, name)
        self.from_logits = from_logits

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        mask = mask_of(y_pred)
        y_pred = validation.tensor("y_pred", y_pred)
        if len(y_pred.shape) != 3 or y_pred.shape[-1] is None or y_pred.shape[-1] < 2:
            raise ValueError(
                f"y_pred of the shape {tuple(y_pred.shape)}: expected (batch, time, classes), with "
                "two classes or more."
            )
        if self.blank >= y_pred.shape[-1]:
            raise ValueError(
                f"blank={self.blank}: expected a class of y_pred, 0 to {y_pred.shape[-1] - 1}."
            )
        targets = _targets(y_true, y_pred, self.blank)
        used = None if mask is None else checked_mask(mask, y_pred)
        log_p = log_probabilities(y_pred, used, self.from_logits)
        losses, lacking = _losses(targets, log_p, used, self.blank)
        weights = self._weights(sample_weight, y_pred, losses.dtype)
        if weights is not None:
            lacking = ops.where(weights == 0, 0, lacking)
        impossible = lacking > 0
        if self.impossible == "warn":
            call_where(impossible, _warn, targets.ids, targets.lengths, targets.needed, lacking)
        return self._completed(losses, impossible, targets.valid, weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each row, `(batch,)`."""
        return CTC(self.blank, self.from_logits, self.impossible, None)(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


class _Targets(NamedTuple):
    """The labels of each row, padded with the blank."""

    ids: Tensor
    """`(batch, width)`: one more than the columns of the targets, so there is always one."""

    lengths: Tensor
    """`(batch,)`"""

    repeats: Tensor
    """Boolean `(batch, width)`: whether a label equals the one before it."""

    needed: Tensor
    """`(batch,)`: the smallest number of frames that can write the labels."""

    valid: Tensor
    """Boolean `(batch,)`: whether all of them are classes."""


def _targets(y_true: Tensor, y_pred: Tensor, blank: int) -> _Targets:
    ids, lengths, valid = labels_of(y_true, y_pred, blank, y_pred.shape[-1])
    repeats = repeated(ids, blank)
    needed = lengths + ops.sum(ops.cast(repeats, "int32"), axis=1)
    return _Targets(ids, lengths, repeats, needed, valid)


def _losses(
    targets: _Targets, log_p: Tensor, used: Tensor | None, blank: int
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the number of frames that it lacks; both 0 or more."""
    if used is None:
        used = ops.ones(ops.shape(log_p)[:2], dtype="bool")
    of_blank, of_labels = emissions(log_p, targets.ids, blank)
    arguments = (of_blank, of_labels, targets.repeats, targets.lengths, frames_first(used))
    likelihood = dynamic.traced(_log_likelihood, *arguments)
    frames = ops.sum(ops.cast(used, "int32"), axis=1)
    return -likelihood, ops.maximum(targets.needed - frames, 0)


# The recursion: see `CTC`. Its arrays are shifted: emit[n] is ε(n + 1), and the last of them, of
# no label, is never reached.


def _log_likelihood(*arguments: Tensor) -> Tensor:
    return dynamic.with_gradient(_forward, _backward, *arguments)


def _forward(
    of_blank: Tensor, of_labels: Tensor, repeats: Tensor, lengths: Tensor, keep: Tensor
) -> tuple[Tensor, Any]:
    """The log-likelihood of each row.

    Args:
        of_blank: log-probabilities of the blank, `(time, batch, 1)`.
        of_labels: log-probabilities of the labels, `(time, batch, width)`.
        repeats: see `_Targets`.
        lengths: see `_Targets`.
        keep: the frames in use, `(time, batch, 1)`.
    """

    def step(state: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> Any:
        (blanks, emit), (blank, labels) = state, x
        either = log_semiring.add(blanks, after_label(emit))
        emit = log_semiring.add(emit, ops.where(repeats, blanks, either)) + labels
        after = (either + blank, emit)
        return after, after

    never = ops.full(ops.shape(repeats), NEVER, dtype=of_blank.dtype)
    start = ops.where(ops.arange(ops.shape(repeats)[1]) == 0, ops.zeros_like(never), never)
    (blanks, emit), states = log_semiring.scan(step, (start, never), (of_blank, of_labels), keep)
    either = log_semiring.add(blanks, after_label(emit))
    likelihood = ops.take_along_axis(either, ops.expand_dims(lengths, 1), axis=1)[:, 0]
    return likelihood, (of_blank, of_labels, repeats, lengths, keep, states, likelihood)


def _backward(residuals: Any, d_likelihood: Tensor) -> tuple[Any, ...]:
    """The gradients: how much of the likelihood is of paths with this symbol at this frame.

    The state is the log-probability of what remains to be written after a frame: after a blank, and
    after a label.
    """
    of_blank, of_labels, repeats, lengths, keep, states, likelihood = residuals
    possible = ops.expand_dims(log_semiring.possible(likelihood), 1)
    total = ops.where(possible, ops.expand_dims(likelihood, 1), 0)
    scale = ops.where(possible, ops.expand_dims(d_likelihood, 1), 0)

    def before(x: Tensor) -> Tensor:
        """x(n + 1) at each n: NEVER at the last."""
        return ops.pad(x[:, 1:], ((0, 0), (0, 1)), constant_values=NEVER)

    next_repeats = ops.pad(repeats[:, 1:], ((0, 0), (0, 1)))

    def step(left: tuple[Tensor, Tensor], x: Any) -> Any:
        (of_rest, of_label), (blank, labels, blanks, emit) = left, x
        d_blank = scale * ops.sum(ops.exp(blanks + of_rest - total), axis=1, keepdims=True)
        d_labels = scale * ops.exp(emit + of_label - total)
        with_blank, with_label = of_rest + blank, of_label + labels
        either = log_semiring.add(with_blank, with_label)
        next_label = ops.where(next_repeats, before(with_blank), before(either))
        return (either, log_semiring.add(with_label, next_label)), (d_blank, d_labels)

    places = ops.arange(ops.shape(repeats)[1], dtype="int32")
    lengths = ops.expand_dims(lengths, 1)
    never = ops.full(ops.shape(repeats), NEVER, dtype=of_blank.dtype)
    zero = ops.zeros_like(never)
    end = tuple(ops.where(places == at, zero, never) for at in (lengths, lengths - 1))
    xs = (of_blank, of_labels, *states)
    _, (d_blank, d_labels) = log_semiring.scan(step, end, xs, keep, reverse=True)
    d_blank, d_labels = (ops.where(keep, d, 0) for d in (d_blank, d_labels))
    return d_blank, d_labels, None, None, None


def _warn(ids: np.ndarray, lengths: np.ndarray, needed: np.ndarray, lacking: np.ndarray) -> None:
    """Name the rows whose targets are impossible."""
    rows = np.flatnonzero(lacking)
    shown = [
        f"row {row}, {ids[row, : lengths[row]].tolist()}, needs {counted(needed[row], 'frame')} "
        f"and has {needed[row] - lacking[row]}"
        for row in rows[:SHOWN]
    ]
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    warnings.warn(
        f"CTC: {counted(len(rows), 'target')} of the batch cannot be written in the frames of its "
        f"outputs: {'; '.join(shown)}{more}. Its loss is infinite. Leave such rows out, give the "
        "model more frames, or set impossible='zero'.",
        stacklevel=2,
    )
