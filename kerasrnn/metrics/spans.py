"""Precision, recall and F1 of spans, such as names in a text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.structured import structure_of
from kerasrnn.losses.weights import (
    as_ids,
    is_concrete,
    mask_of,
    valid_first,
    weights_of_rows,
)
from kerasrnn.metrics.accuracy import predicted_ids
from kerasrnn.metrics.tag_schemes import SchemeName, Tags

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SpanF1(keras.metrics.Metric):
    """F1 of spans: a predicted span is correct if a true one has its steps and its type.

        precision = correct / predicted,   recall = correct / true
        F1 = 2 precision recall / (precision + recall) = 2 correct / (predicted + true)

    with the spans of all rows of all batches counted together (the micro average). `by_type`
    returns the same for each type.

    The spans are those of a scheme, read strictly: what the scheme cannot mark is not a span. In
    BIO, I-PER without B-PER before it is none; in IOB1, B-PER is none unless it directly follows a
    PER span; in BIOES, a span without its end is none. The numbers are those of seqeval with
    `mode="strict"` (1.2.2; in IOB1, for tags that the scheme allows). They are counted by
    operations of the backend: in `fit`, no batch leaves the device, and masks are read.

    Args:
        tags: the names of the tags, by number: "O", and letters with types, such as "B-PER"; or
            letters alone.
        scheme: "BIO", "IOB1", "BIOES", "BILOU" or "BMES".
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: the numbers of the tags, `(batch, time)`; any at masked steps.
        y_pred: numbers of tags, `(batch, time)`; or scores, `(batch, time, tags)`, whose highest
            ones are read. Of the output of a `kerasrnn.CRF`, the most probable sequence is read.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`; a row with a weight of 2 counts twice.

    Returns:
        F1, from 0 to 1; 0 if there is no span.

    Masking: if the predictions have a mask, masked steps are skipped: the tags on both sides are
    adjacent. On JAX, the training metrics of Keras's `fit` get neither the mask nor the most
    probable sequence: read those of `evaluate` and of the validation data, which get both.

    Raises:
        ValueError: `tags` are not unique names of the scheme, or mark no spans; the shapes do not
            match, or there are weights of single steps; a number is not that of a tag. Where values
            are unknown, as in a graph, the result is then NaN.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.SpanF1(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
        >>> y_true = np.array([[1, 2, 0, 3, 4]])      # PER at steps 0 and 1, LOC at 3 and 4
        >>> y_pred = np.array([[1, 2, 0, 3, 0]])
        >>> metric.update_state(y_true, y_pred)
        >>> float(metric.result())
        0.5
        >>> metric.by_type()["LOC"]
        TypeScores(precision=0.0, recall=0.0, f1=0.0, support=1.0)
    """

    _direction = "up"  # used by callbacks with mode="auto"

    @validation.checked
    def __init__(
        self,
        tags: Sequence[str],
        scheme: SchemeName = "BIO",
        name: str = "span_f1",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        tags = validation.sequence("tags", tags)
        names = [validation.string(f"tags[{n}]", each) for n, each in enumerate(tags)]
        self.tags, self.scheme = names, scheme
        parsed = Tags(names, scheme)
        if len(set(names)) < len(names) or not parsed.types:
            raise validation.ArgumentError("tags", names, "names that differ, and mark spans")
        self.types = parsed.types
        starts, continues, ends = parsed.boundaries()
        # After the last step there is one outside of spans, which ends them.
        closing = np.zeros((len(names) + 1, 1), bool)
        self._starts = np.concatenate([starts, closing], axis=1)
        self._continues = np.concatenate([continues, closing], axis=1)
        self._ends = np.append(ends, False)
        self._type_ids = np.append(parsed.type_ids(), 0)
        self._counts = self.add_variable((3, len(self.types)), "zeros", name="counts")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        y_pred = validation.tensor("y_pred", y_pred)
        if len(y_pred.shape) == 3 and y_pred.shape[-1] != len(self.tags):
            raise ValueError(
                f"y_pred of the shape {tuple(y_pred.shape)}: expected scores (batch, time, "
                f"{len(self.tags)}), for the tags {self.tags}."
            )
        mask, structure = mask_of(y_pred), structure_of(y_pred)
        predicted = predicted_ids(y_pred) if structure is None else structure.most_probable()
        ids = as_ids(y_true, predicted)
        valid = ops.ones_like(ids, dtype="bool") if mask is None else ops.cast(mask, "bool")
        known = self._check_known("y_true", ids, valid) & self._check_known(
            "y_pred", predicted, valid
        )
        weights = ops.where(known, 1.0, np.nan)
        if sample_weight is not None:
            weights = weights * weights_of_rows(sample_weight, predicted.shape[0], "float32")
        ids, predicted, valid = valid_first(valid, ids, predicted, valid)
        true, found = self._boundaries(ids, valid), self._boundaries(predicted, valid)
        counts = [
            self._count(each.starts, each.ends, each.breaks, each.types, weights)
            for each in (true, found)
        ]
        # A span of both starts at a step where both start one of its type, and ends where both end
        # one, if neither is interrupted between.
        correct = self._count(
            true.starts & found.starts & (true.types == found.types),
            true.ends & found.ends,
            true.breaks | found.breaks,
            true.types,
            weights,
        )
        self._counts.assign_add(ops.cast(ops.stack([*counts, correct]), self._counts.dtype))

    def result(self) -> Tensor:
        true, predicted, correct = ops.unstack(ops.sum(self._counts, axis=1), 3)
        return ops.divide_no_nan(2 * correct, true + predicted)

    def by_type(self) -> "dict[str, TypeScores]":
        """Precision, recall, F1 and the number of true spans of each type, as Python numbers."""
        counts = ops.convert_to_numpy(self._counts).astype("float64").T
        found = {}
        for name, (true, predicted, correct) in zip(self.types, counts.tolist(), strict=True):
            found[name] = TypeScores(
                correct / predicted if predicted else 0.0,
                correct / true if true else 0.0,
                2 * correct / (true + predicted) if true + predicted else 0.0,
                true,
            )
        return found

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tags": self.tags, "scheme": self.scheme}

    def _check_known(self, name: str, ids: Tensor, valid: Tensor) -> Tensor:
        """Whether all valid tags of each row exist, `(batch,)`; an error if values are known."""
        wrong = valid & ((ids < 0) | (ids >= len(self.tags)))
        if is_concrete(wrong) and ops.convert_to_numpy(wrong).any():
            number = ops.convert_to_numpy(ids)[ops.convert_to_numpy(wrong)][0]
            raise ValueError(
                f"{name}: expected numbers of tags, 0 to {len(self.tags) - 1}; found {number}."
            )
        return ~ops.any(wrong, axis=1)

    def _boundaries(self, ids: Tensor, valid: Tensor) -> "_Boundaries":
        """Where spans start and end, for valid steps that come before all others."""
        count = len(self.tags)
        outside = ops.full_like(ids[:, :1], count)
        after = ops.concatenate([ops.where(valid, ids, count), outside], axis=1)
        before = ops.concatenate([outside, after[:, :-1]], axis=1)
        pairs = ops.clip(before, 0, count) * (count + 1) + ops.clip(after, 0, count)

        def look_up(table: np.ndarray, at: Tensor) -> Tensor:
            return ops.take(ops.convert_to_tensor(table.reshape(-1)), at, axis=0)

        breaks = ~look_up(self._continues, pairs)
        return _Boundaries(
            look_up(self._starts, pairs),
            look_up(self._ends, before) & breaks,
            breaks,
            look_up(self._type_ids.astype("int32"), after),
        )

    def _count(
        self, starts: Tensor, ends: Tensor, breaks: Tensor, types: Tensor, weights: Tensor
    ) -> Tensor:
        """The number of spans of each type, `(types,)`.

        A span starts at a break, and ends at the next one.
        """
        starts, ends, types = valid_first(breaks, starts, ends, types)
        whole = starts[:, :-1] & ends[:, 1:]
        is_type = ops.expand_dims(types[:, :-1], -1) == ops.arange(len(self.types), dtype="int32")
        of_rows = ops.sum(ops.cast(is_type & ops.expand_dims(whole, -1), "float32"), axis=1)
        return ops.sum(of_rows * ops.expand_dims(weights, 1), axis=0)


class TypeScores(NamedTuple):
    """The scores of the spans of one type."""

    precision: float
    recall: float
    f1: float
    support: float
    """The number of true spans."""


class _Boundaries(NamedTuple):
    """For each step, and one after the last, `(batch, time + 1)`."""

    starts: Tensor
    """Whether a span starts here."""

    ends: Tensor
    """Whether a complete span ends here, before this step."""

    breaks: Tensor
    """Whether this step does not continue a span, complete or not."""

    types: Tensor
    """The number of the type."""
