"""The error rates of transcriptions: edits of characters or words per character or word."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import boolean_mask, fits
from kerasrnn.decoding.ctc import best_path
from kerasrnn.losses.weights import mask_of
from kerasrnn.metrics.edit_distance import NONE, EditsPerSymbol, edit_distance
from kerasrnn.recurrence import dynamic
from kerasrnn.validation import NonNegativeInteger

Tensor = Any

MULTIPLIER, BITS = 1_000_003, 2**31 - 1
"""Of the hash of a word: an odd number, and the bits that it keeps."""


class _ErrorRate(EditsPerSymbol):
    """Reads texts or ids; subclasses define their units."""

    def __init__(self, blank: int, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.blank = blank

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Tensor | None = None) -> None:
        references, hypotheses = _texts("y_true", y_true), _texts("y_pred", y_pred)
        if (references is None) != (hypotheses is None):
            raise ValueError(
                f"y_true is a {type(y_true).__name__} and y_pred a {type(y_pred).__name__}: "
                "expected texts for both, or ids for both."
            )
        if references is not None:
            if len(references) != len(hypotheses):
                raise ValueError(
                    f"y_pred has {len(hypotheses)} texts: expected as many as y_true, "
                    f"{len(references)}."
                )
            y_true, y_pred = _as_ids(
                [self.units(text) for text in references], [self.units(text) for text in hypotheses]
            )
        else:
            y_true, y_pred = self._symbols("y_true", y_true), self._predicted(y_pred)
            if not fits(y_true.shape[:1], y_pred.shape[:1]):
                raise ValueError(
                    f"y_pred has {y_pred.shape[0]} rows: expected as many as y_true, "
                    f"{y_true.shape[0]}."
                )
            y_true, y_pred = self.units_of_ids(y_true), self.units_of_ids(y_pred)
        self.add_edits(*edit_distance(y_true, y_pred), sample_weight)

    def units(self, text: str) -> Sequence[str]:
        """The characters or words of a text."""
        # Abstract: every error rate defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `units`.")

    def units_of_ids(self, ids: Tensor) -> Tensor:
        """Ids of the characters or words of `(batch, time)`; NONE at other positions."""
        return ids

    def _predicted(self, y_pred: Tensor) -> Tensor:
        mask = mask_of(y_pred)
        y_pred = validation.tensor("y_pred", y_pred)
        if len(y_pred.shape) == 3:
            classes = y_pred.shape[-1]
            if classes is not None and self.blank >= classes:
                raise ValueError(
                    f"blank={self.blank}: expected a class of y_pred, 0 to {classes - 1}."
                )
            if mask is None:
                used = ops.ones(ops.shape(y_pred)[:2], dtype="bool")
            else:
                used = boolean_mask("mask of y_pred", mask, tuple(y_pred.shape[:2]))
            # Whether probabilities or logits: the best path of both is the same.
            found = best_path(ops.cast(y_pred, "float32"), used, self.blank)
            return self._symbols("y_pred", found.labels)
        ids = self._symbols("y_pred", y_pred)
        return ids if mask is None else ops.where(mask, ids, NONE)

    def _symbols(self, name: str, value: Any) -> Tensor:
        ids = validation.ids(name, value)
        if len(ids.shape) != 2:
            raise ValueError(
                f"{name} of the shape {tuple(ids.shape)}: expected ids (batch, time)"
                + (", or scores (batch, time, classes)." if name == "y_pred" else ".")
            )
        return ops.where(ids == self.blank, NONE, ids)

    def get_config(self) -> dict[str, Any]:
        return {"blank": self.blank, **super().get_config()}


@keras.saving.register_keras_serializable(package="kerasrnn")
class CharacterErrorRate(_ErrorRate):
    """The character error rate: edits per character of the references.

        CER = sum_b w_b D(r_b, h_b) / sum_b w_b |r_b|

    over all batches, with the edit distance D (see `edit_distance`): a long reference counts more
    than a short one. It is that of jiwer. With ids, each is a character; for other units, such as
    phonemes or labels, it is their error rate.

    In `fit`, a metric reads ids and outputs of the model, in the graph of the training step, on
    every backend. Texts are read where they are known, in eager calls: those that a decoder wrote.

    Args:
        blank: with ids: the one that pads, and the blank of the model.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: ids, `(batch, labels)`, where blanks and negative ids are padding, at any position;
            or texts: a list, an array or a tensor of strings.
        y_pred: ids, `(batch, steps)`; or outputs of a model with `kerasrnn.losses.CTC`, `(batch,
            time, classes)`, of which the best path is read, see `kerasrnn.decoding.CTCGreedy`; or
            texts.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, or only one of both is
            of texts.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.CharacterErrorRate()
        >>> metric.update_state(["recurrent"], ["recurent"])
        >>> metric.update_state(np.array([[3, 1, 4, 0]]), np.array([[3, 4, 0]]))
        >>> round(float(metric.result()), 4)                                    # 2 of 9 + 3
        0.1667
    """

    @validation.checked
    def __init__(
        self,
        blank: NonNegativeInteger = 0,
        name: str = "character_error_rate",
        dtype: Any = None,
    ) -> None:
        super().__init__(blank, name, dtype)

    def units(self, text: str) -> Sequence[str]:
        return text.strip()


@keras.saving.register_keras_serializable(package="kerasrnn")
class WordErrorRate(_ErrorRate):
    """The word error rate: edits per word of the references.

        WER = sum_b w_b D(r_b, h_b) / sum_b w_b |r_b|

    over all batches, with the edit distance D of words (see `edit_distance`). It is that of jiwer:
    words are separated by white space. Neither case nor punctuation is ignored.

    Args:
        separator: with ids: the one between words, several of which count as one; None: each id is
            a word.
        blank: with ids: the one that pads, and the blank of the model.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: see `CharacterErrorRate`.
        y_pred: see `CharacterErrorRate`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`.

    With a `separator`, words are compared by hashes of 31 bits: one of 2 billion wrong words is
    counted as right.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: see `CharacterErrorRate`; or the separator is the blank.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.WordErrorRate(separator=9)
        >>> metric.update_state(["the cat sat"], ["the cat  sad"])
        >>> metric.update_state(np.array([[3, 1, 9, 4]]), np.array([[3, 1, 9, 9, 4]]))
        >>> round(float(metric.result()), 4)                                    # 1 of 3 + 2
        0.2
    """

    @validation.checked
    def __init__(
        self,
        separator: int | None = None,
        blank: NonNegativeInteger = 0,
        name: str = "word_error_rate",
        dtype: Any = None,
    ) -> None:
        super().__init__(blank, name, dtype)
        if separator is not None:
            separator = validation.integer("separator", separator, minimum=0)
            if separator == blank:
                raise ValueError(f"separator={separator}: expected another id than the blank.")
        self.separator = separator

    def units(self, text: str) -> Sequence[str]:
        return text.split()

    def units_of_ids(self, ids: Tensor) -> Tensor:
        if self.separator is None:
            return ids
        return dynamic.traced(_words, ids, separator=self.separator)

    def get_config(self) -> dict[str, Any]:
        return {"separator": self.separator, **super().get_config()}


def _words(ids: Tensor, separator: int) -> Tensor:
    """A hash of each word, after its last id; NONE at other positions."""
    # The last word ends, too.
    ids = ops.pad(ids, ((0, 0), (0, 1)), constant_values=separator)

    def step(word: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        longer = ops.bitwise_and(ops.maximum(word, 0) * MULTIPLIER + now + 1, BITS)
        ends = now == separator
        after = ops.where(ends | (now < 0), ops.where(ends, NONE, word), longer)
        return after, ops.where(ends, word, NONE)

    start = ops.full_like(ids[:, 0], NONE)
    return ops.transpose(dynamic.scan(step, start, ops.transpose(ids))[1])


def _texts(name: str, value: Any) -> list[str] | None:
    """The texts, if they are texts."""
    if hasattr(value, "dtype") and "string" in str(value.dtype):  # of TensorFlow
        try:
            value = value.numpy()
        except (AttributeError, NotImplementedError):
            raise ValueError(
                f"{name} is a tensor of strings in a graph: expected ids there, or an eager call."
            ) from None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        value = value.reshape(-1).tolist()
    if isinstance(value, (str, bytes)):
        value = [value]
    if not isinstance(value, (list, tuple)) or not any(
        isinstance(each, (str, bytes)) for each in value
    ):
        return None
    texts = [each.decode() if isinstance(each, bytes) else each for each in value]
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise validation.ArgumentError(f"{name}[{n}]", text, "a text")
    return texts


def _as_ids(*parts: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """The units of texts as ids, padded with NONE: equal units have equal ids."""
    known: dict[str, int] = {}
    results = []
    for rows in parts:
        ids = np.full((len(rows), max(map(len, rows), default=0)), NONE, "int32")
        for b, units in enumerate(rows):
            ids[b, : len(units)] = [known.setdefault(unit, len(known)) for unit in units]
        results.append(ids)
    return results
