"""How many edits make a sequence of ids another one, in whole batches at once."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.weights import as_ids, as_weights, mask_of
from kerasrnn.metrics.accuracy import said_ids

Tensor = Any

NONE = -1
"""Stands where there is no symbol."""

FAR = 2**29
"""More than any distance; twice it is still an int32."""


@validation.checked
def edit_distance(
    references: Tensor,
    hypotheses: Tensor,
    end: int | None = None,
    ignore_class: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The Levenshtein distance of each row, and the length of its reference.

    The least number of insertions, deletions and substitutions that make the hypothesis h of the
    reference r; Wagner & Fischer (1974), "The string-to-string correction problem":

        D_00 = 0
        D_ij = min(D_{i-1,j} + 1, D_{i,j-1} + 1, D_{i-1,j-1} + [r_i != h_j])

    It runs over the antidiagonals i + j, of all rows at once: one graph, also for XLA. A sequence
    ends before its first `end`. Padding is no symbol, wherever it stands, and neither is a negative
    id.

    Args:
        references: ids `(batch, time)`, or several references a row, `(batch, references, time)`:
            the closest one counts, the first of several; one that is all padding is none, unless
            all of them are.
        hypotheses: ids `(batch, steps)`; `steps` may differ from `time`.
        end: the id of the end symbol, which is no part of a sequence; None: there is none.
        ignore_class: the id of padding. None: every id from 0 on is a symbol.

    Returns:
        The distances and the lengths, `(batch,)`, int32. Two sequences are the same if their
        distance is 0; the sum of distances over the sum of lengths is the token error rate.

    Raises:
        ValueError: the shapes do not fit, or an id is no integer.

    Example:

        >>> import numpy as np, kerasrnn
        >>> said = np.array([[7, 8, 9, 2, 5], [3, 4, 2, 0, 0]])
        >>> distances, lengths = kerasrnn.metrics.edit_distance(
        ...     np.array([[7, 9, 9, 9, 2], [3, 4, 2, 0, 0]]), said, end=2)
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
    # Before the end was looked for: a reference of an end alone is an empty one.
    missing = _count(_symbols(references, None, ignore_class)) == 0
    closest = ops.argmin(ops.where(missing, FAR, distances), axis=-1)
    closest = ops.expand_dims(closest, -1)
    return tuple(
        ops.squeeze(ops.take_along_axis(of_all, closest, axis=-1), -1)
        for of_all in (distances, lengths)
    )


def _symbols(ids: Tensor, end: int | None, ignore_class: int | None) -> Tensor:
    """The ids with NONE where there is no symbol."""
    kept = ids >= 0
    if ignore_class is not None:
        kept = kept & (ids != ignore_class)
    if end is not None:
        kept = kept & (ops.cumsum(ops.cast(ids == end, "int32"), axis=-1) == 0)
    return ops.where(kept, ids, NONE)


def _count(symbols: Tensor) -> Tensor:
    return ops.sum(ops.cast(symbols >= 0, "int32"), axis=-1)


def _levenshtein(r: Tensor, h: Tensor) -> Tensor:
    """Of the last axis of `(..., I)` and `(..., J)`: `(...)`.

    To insert or to delete NONE costs nothing. So no length needs to be known: the distance stands
    in the corner D_IJ.
    """
    columns = ops.shape(h)[-1]
    steps = ops.shape(r)[-1] + columns
    # r_0, which there is not, and one behind the end of h, where NONE goes on and leaves D as it is
    # until the last antidiagonal holds D_IJ. Each gets the axes of the other.
    others = [[0, 0]] * (len(r.shape) - 1)
    r = ops.pad(r, [*others, [1, 0]], constant_values=NONE)
    h = ops.pad(h, [*others, [0, 1]], constant_values=NONE)
    r, h = r + 0 * h[..., :1], h + 0 * r[..., :1]
    deletion = ops.cast(r >= 0, "int32")
    far = ops.full_like(r, FAR)

    def after(first: Tensor, of_i: Tensor) -> Tensor:
        return ops.concatenate([first, of_i[..., :-1]], axis=-1)

    def step(n: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """From the antidiagonals n - 1 and n to n + 1; each holds D_ij at i."""
        before, last, h_j = state
        h_next = ops.take(h, ops.minimum(n, columns), axis=-1)
        h_j = after(ops.expand_dims(h_next, -1), h_j)  # h slides past r, one further each time
        insertion = ops.cast(h_j >= 0, "int32")
        substitution = ops.cast(h_j != r, "int32")
        new = ops.minimum(last + insertion, after(far[..., :1], last) + deletion)
        return last, ops.minimum(new, after(far[..., :1], before) + substitution), h_j

    start = ops.concatenate([ops.zeros_like(r[..., :1]), far[..., 1:]], axis=-1)
    state = (far, start, ops.full_like(r, NONE))
    return ops.fori_loop(0, steps, step, state)[1][..., -1]


@keras.saving.register_keras_serializable(package="kerasrnn")
class EditDistance(keras.metrics.Mean):
    """The token error rate: edits (`edit_distance`) over the symbols of the references.

        sum_b w_b D(r_b, h_b) / sum_b w_b |r_b|

    over all batches. Of phonemes it is the phone error rate, of words the word error rate. For
    texts, use jiwer, which agrees with it.

    Args:
        end: the id of the end symbol: a sequence ends before its first one; None: there is none.
        ignore_class: the id of padding, which is no symbol. None: every id from 0 on is one.
        name: of the metric.
        dtype: of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`, or `(batch, references, time)`, of which the closest counts.
        y_pred: ids, `(batch, steps)`; or scores, `(batch, time, classes)`, of which the most
            probable ones are taken. Scores belong to the targets, step by step: what stands where
            the target is padding is left out. So in `fit`, where a decoder reads the targets, it is
            an error rate under teacher forcing.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`.

    Masking: where the predictions carry a mask, the steps that it masks are left out; where the
    predictions are scores, the targets of these steps too.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.EditDistance(end=2)
        >>> metric.update_state(np.array([[5, 6, 7, 8, 2]]), np.array([[5, 7, 8, 2, 0, 0]]))
        >>> float(metric.result())
        0.25
    """

    _direction = "down"  # what callbacks with mode="auto" ask for

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
        said = said_ids(y_pred)
        if mask is not None:
            said = ops.where(mask, said, NONE)
        if len(y_pred.shape) == 3:
            y_true = _symbols(as_ids(y_true, y_pred), None, self.ignore_class)
            if mask is not None:
                y_true = ops.where(mask, y_true, NONE)
            said = ops.where(y_true >= 0, said, NONE)
        edits, lengths = edit_distance(y_true, said, self.end, self.ignore_class)
        edits, lengths = ops.cast(edits, self.dtype), ops.cast(lengths, self.dtype)
        if sample_weight is not None:
            weights = as_weights(sample_weight, self.dtype)
            if tuple(weights.shape[1:]) not in ((), (1,)) or len(weights.shape) == 0:
                raise ValueError(
                    f"sample_weight of the shape {tuple(weights.shape)}: expected the weights of "
                    "rows, (batch,) or (batch, 1)."
                )
            weights = ops.reshape(weights, (-1,))
            edits, lengths = edits * weights, lengths * weights
        self.total.assign_add(ops.sum(edits))
        self.count.assign_add(ops.sum(lengths))

    def get_config(self) -> dict[str, Any]:
        return {"end": self.end, "ignore_class": self.ignore_class, **super().get_config()}
