"""The edit distance between sequences of ids, for entire batches at once."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.weights import as_ids, mask_of, weights_of_rows
from kerasrnn.metrics.accuracy import predicted_ids

Tensor = Any

NONE = -1
"""Placeholder for positions without a symbol."""

FAR = 2**29
"""Larger than any distance; twice this value still fits into an int32."""


@validation.checked
def edit_distance(
    references: Tensor,
    hypotheses: Tensor,
    end: int | None = None,
    ignore_class: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The Levenshtein distance of each row, and the length of its reference.

    It is the minimum number of insertions, deletions and substitutions that turn the reference r
    into the hypothesis h; Wagner & Fischer (1974), "The string-to-string correction problem":

        D_00 = 0
        D_ij = min(D_{i-1,j} + 1, D_{i,j-1} + 1, D_{i-1,j-1} + [r_i != h_j])

    It is computed along the antidiagonals i + j, for all rows at once: as one graph, also with XLA.
    A sequence ends before its first `end`. Padding is ignored at any position, as are negative ids.

    Args:
        references: ids `(batch, time)`, or several references per row, `(batch, references, time)`:
            the closest one counts, the first in case of ties; a reference that is all padding is
            ignored, unless all of them are.
        hypotheses: ids `(batch, steps)`; `steps` may differ from `time`.
        end: the id of the end symbol, which is not part of a sequence; None: no end symbol.
        ignore_class: the id of padding. None: every nonnegative id is a symbol.

    Returns:
        The distances and the lengths, `(batch,)`, int32. Two sequences are equal if their distance
        is 0; the sum of distances divided by the sum of lengths is the token error rate.

    Raises:
        ValueError: the shapes do not match, or an id is not an integer.

    Example:

        >>> import numpy as np, kerasrnn
        >>> predicted = np.array([[7, 8, 9, 2, 5], [3, 4, 2, 0, 0]])
        >>> distances, lengths = kerasrnn.metrics.edit_distance(
        ...     np.array([[7, 9, 9, 9, 2], [3, 4, 2, 0, 0]]), predicted, end=2)
        >>> np.asarray(distances).tolist(), np.asarray(lengths).tolist()
        ([2, 0], [4, 2])
    """
    references = validation.ids("references", references)
    hypotheses = validation.ids("hypotheses", hypotheses)
    if len(references.shape) not in (2, 3):
        raise ValueError(
            f"references of the shape {tuple(references.shape)}: expected ids (batch, time) or "
            "(batch, references, time)."
        )
    if len(hypotheses.shape) != 2:
        raise ValueError(
            f"hypotheses of the shape {tuple(hypotheses.shape)}: expected ids (batch, steps)."
        )
    rows = {references.shape[0], hypotheses.shape[0]} - {None}
    if len(rows) > 1:
        raise ValueError(
            f"hypotheses of {hypotheses.shape[0]} rows: expected as many as the references, "
            f"{references.shape[0]}."
        )
    r = _symbols(references, end, ignore_class)
    h = _symbols(hypotheses, end, ignore_class)
    if len(r.shape) == 3:
        h = ops.expand_dims(h, 1)
    distances = _levenshtein(r, h)
    lengths = _count(r)
    if len(r.shape) == 2:
        return distances, lengths
    # Before `end` is applied: a reference of only an end is empty, not missing.
    missing = _count(_symbols(references, None, ignore_class)) == 0
    closest = ops.argmin(ops.where(missing, FAR, distances), axis=-1)
    closest = ops.expand_dims(closest, -1)
    return tuple(
        ops.squeeze(ops.take_along_axis(of_all, closest, axis=-1), -1)
        for of_all in (distances, lengths)
    )


def _symbols(ids: Tensor, end: int | None, ignore_class: int | None) -> Tensor:
    """The ids, with NONE at positions without a symbol."""
    is_symbol = ids >= 0
    if ignore_class is not None:
        is_symbol = is_symbol & (ids != ignore_class)
    if end is not None:
        is_symbol = is_symbol & (ops.cumsum(ops.cast(ids == end, "int32"), axis=-1) == 0)
    return ops.where(is_symbol, ids, NONE)


def _count(symbols: Tensor) -> Tensor:
    return ops.sum(ops.cast(symbols >= 0, "int32"), axis=-1)


def _levenshtein(r: Tensor, h: Tensor) -> Tensor:
    """Compute the distances over the last axis of `(..., I)` and `(..., J)`: `(...)`.

    Inserting or deleting NONE is free. So no lengths are needed: the distance is at the corner
    D_IJ.
    """
    columns = ops.shape(h)[-1]
    steps = ops.shape(r)[-1] + columns
    # r_0, which does not exist, and padding after the end of h, where NONE leaves D unchanged until
    # the last antidiagonal contains D_IJ. Each gets the axes of the other.
    others = [[0, 0]] * (len(r.shape) - 1)
    r = ops.pad(r, [*others, [1, 0]], constant_values=NONE)
    h = ops.pad(h, [*others, [0, 1]], constant_values=NONE)
    r, h = r + 0 * h[..., :1], h + 0 * r[..., :1]
    deletion = ops.cast(r >= 0, "int32")
    far = ops.full_like(r, FAR)

    def after(first: Tensor, of_i: Tensor) -> Tensor:
        return ops.concatenate([first, of_i[..., :-1]], axis=-1)

    def step(n: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """From the antidiagonals n - 1 and n, compute n + 1; each stores D_ij at i."""
        before, last, h_j = state
        h_next = ops.take(h, ops.minimum(n, columns), axis=-1)
        h_j = after(ops.expand_dims(h_next, -1), h_j)  # h is shifted past r, step by step
        insertion = ops.cast(h_j >= 0, "int32")
        substitution = ops.cast(h_j != r, "int32")
        new = ops.minimum(last + insertion, after(far[..., :1], last) + deletion)
        return last, ops.minimum(new, after(far[..., :1], before) + substitution), h_j

    start = ops.concatenate([ops.zeros_like(r[..., :1]), far[..., 1:]], axis=-1)
    state = (far, start, ops.full_like(r, NONE))
    return ops.fori_loop(0, steps, step, state)[1][..., -1]


class EditsPerSymbol(keras.metrics.Mean):
    """The base class of metrics that divide the edits of all batches by the symbols of the
    references."""

    _direction = "down"  # used by callbacks with mode="auto"

    def add_edits(self, edits: Tensor, lengths: Tensor, sample_weight: Tensor | None) -> None:
        """Add the edits and the lengths of the references of a batch, `(batch,)`.

        Raises:
            ValueError: the weights are not those of rows, `(batch,)` or `(batch, 1)`.
        """
        edits, lengths = ops.cast(edits, self.dtype), ops.cast(lengths, self.dtype)
        if sample_weight is not None:
            weights = weights_of_rows(sample_weight, edits.shape[0], self.dtype)
            edits, lengths = edits * weights, lengths * weights
        self.total.assign_add(ops.sum(edits))
        self.count.assign_add(ops.sum(lengths))


@keras.saving.register_keras_serializable(package="kerasrnn")
class EditDistance(EditsPerSymbol):
    """The token error rate: edits (`edit_distance`) per symbol of the references.

        sum_b w_b D(r_b, h_b) / sum_b w_b |r_b|

    over all batches. For phonemes this is the phone error rate, for words the word error rate. For
    texts, and for the outputs of connectionist temporal classification, see `CharacterErrorRate`
    and `WordErrorRate`.

    Args:
        end: the id of the end symbol: a sequence ends before its first one; None: no end symbol.
        ignore_class: the id of padding, which is not a symbol. None: every nonnegative id is one.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`, or `(batch, references, time)`, where the closest counts.
        y_pred: ids, `(batch, steps)`; or scores, `(batch, time, classes)`, which are converted to
            the most probable ids. Scores are aligned with the targets, step by step: where the
            target is padding, they are excluded. In `fit`, where a decoder reads the targets, the
            metric is thus an error rate under teacher forcing.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`.

    Masking: if the predictions have a mask, its masked steps are excluded; if the predictions are
    scores, so are the targets of these steps.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.EditDistance(end=2)
        >>> metric.update_state(np.array([[5, 6, 7, 8, 2]]), np.array([[5, 7, 8, 2, 0, 0]]))
        >>> float(metric.result())
        0.25
    """

    @validation.checked
    def __init__(
        self,
        end: int | None = None,
        ignore_class: int | None = None,
        name: str = "edit_distance",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.end = end
        self.ignore_class = ignore_class

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        mask = mask_of(y_pred)
        predicted = predicted_ids(y_pred)
        if mask is not None:
            predicted = ops.where(mask, predicted, NONE)
        if len(y_pred.shape) == 3:
            y_true = _symbols(as_ids(y_true, y_pred), None, self.ignore_class)
            if mask is not None:
                y_true = ops.where(mask, y_true, NONE)
            predicted = ops.where(y_true >= 0, predicted, NONE)
        self.add_edits(
            *edit_distance(y_true, predicted, self.end, self.ignore_class), sample_weight
        )

    def get_config(self) -> dict[str, Any]:
        return {"end": self.end, "ignore_class": self.ignore_class, **super().get_config()}
