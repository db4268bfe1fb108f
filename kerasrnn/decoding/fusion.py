"""Shallow fusion: a language model that scores the symbols of a decoder."""

from typing import Any

import keras
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.decoding.language_models import LanguageModel
from kerasrnn.decoding.processors import IMPOSSIBLE, History, LogitsProcessor, possible
from kerasrnn.validation import NonNegativeNumber, PositiveInteger

Tensor = Any

UNKNOWN = 1
"""The id whose score the language model gives to ids that it does not know."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class LanguageModelFusion(LogitsProcessor):
    """Adds the scores of a language model to those of the decoder.

        score(y_t) = log p(y_t | y_1 ... y_{t-1}, x) + w log p_LM(y_t | y_1 ... y_{t-1})

    (shallow fusion: Gulcehre et al. 2015, "On using monolingual corpora in neural machine
    translation", section 4.1). The language model may be trained on more text than there are pairs
    of source and target. The end of a sequence has the score of its end in the language model.

    The language model scores the ids 1 to `classes` - 1. Other ids, such as words that are copied
    from the source, have the score of id 1, which vectorizers give to unknown symbols. It reads the
    prompt, if there is one.

    Args:
        language_model: a `kerasrnn.decoding.NGramLanguageModel`, `RecurrentLanguageModel` or other
            `LanguageModel`, whose blank is 0.
        weight: w, 0 or more.
        classes: the number of ids that the language model scores, with 0 for padding. Default: that
            of the language model; otherwise `end`, which follows the symbols of a
            `zoo.Translator`.

    Raises:
        ValueError: an argument is out of its range; `classes` is neither given nor known.

    Example: a language model in which 2 follows 1.

        >>> import numpy as np, kerasrnn
        >>> ngrams = kerasrnn.NGrams.of_sequences([[1, 2], [1, 2]], order=2)
        >>> fusion = kerasrnn.decoding.LanguageModelFusion(
        ...     kerasrnn.decoding.NGramLanguageModel.from_ngrams(ngrams, classes=3), weight=0.5)
        >>> decoder = kerasrnn.Decoder(5, [kerasrnn.GRU(4)])
        >>> generator = kerasrnn.Generator(
        ...     decoder, max_length=4, start=4, end=3, processors=[fusion])
        >>> tuple(generator(max_lengths=np.array([4])).shape)
        (1, 4)
    """

    @validation.checked
    def __init__(
        self,
        language_model: LanguageModel,
        weight: NonNegativeNumber = 0.3,
        classes: PositiveInteger | None = None,
    ) -> None:
        if not isinstance(language_model, LanguageModel):
            raise validation.ArgumentError(
                "language_model", language_model, "a kerasrnn.decoding.LanguageModel"
            )
        if not language_model.built:
            language_model.build()
        self.language_model, self.weight, self.classes = language_model, weight, classes
        self.layers = [language_model]

    def check(self, size: int, end: int | None) -> None:
        classes = self._classes(end)
        if classes > size:
            raise ValueError(
                f"classes={classes}: the decoder has {size} classes; expected as many or fewer."
            )

    def initialize(self, history: History) -> Any:
        """The scores of the first symbol, and the language model's state, after the prompt."""
        classes = self._classes(history.end)
        scores, state = self.language_model.initial(history.rows, classes, 0)
        carry = {"scores": scores, "state": state}
        if not history.has_prompt:
            return carry
        symbols, lengths = history.symbols, history.lengths

        def read(t: Tensor, *flat: Tensor) -> list[Tensor]:
            before = tree.pack_sequence_as(carry, list(flat))
            after = self._step(ops.take(symbols, t, axis=1), before["state"], classes)
            return [t + 1, *tree.flatten(_chosen(t < lengths, after, before))]

        longest = ops.max(lengths)
        start = ops.zeros((), dtype="int32")
        _, *flat = ops.while_loop(lambda t, *_: t < longest, read, [start, *tree.flatten(carry)])
        return tree.pack_sequence_as(carry, flat)

    def advance(self, history: History, state: Any) -> Any:
        after = self._step(history.last, state["state"], self._classes(history.end))
        return _chosen(ops.broadcast_to(history.step > 0, (history.rows,)), after, state)

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        classes, end = self._classes(history.end), history.end
        column = ops.arange(history.size, dtype="int32")
        column = ops.where(column >= classes, min(UNKNOWN, classes - 1), column)
        if end is not None:
            column = ops.where(column == end, 0, column)  # where the language model has the end
        scores = ops.take(state["scores"], column, axis=1)
        fused = logits + self.weight * scores
        return ops.where(possible(scores), fused, IMPOSSIBLE) if self.weight else logits

    def _step(self, labels: Tensor, state: Any, classes: int) -> dict[str, Any]:
        # What follows the end, or padding, is not used.
        labels = ops.where((labels > 0) & (labels < classes), labels, min(UNKNOWN, classes - 1))
        scores, state = self.language_model.step(labels, state, classes, 0)
        return {"scores": scores, "state": state}

    def _classes(self, end: int | None) -> int:
        classes = self.classes or getattr(self.language_model, "classes", None) or end
        if classes is None:
            raise ValueError(
                "classes=None: expected the number of ids that the language model scores, since "
                "neither the language model nor an end determines it."
            )
        return classes

    def get_config(self) -> dict[str, Any]:
        return {
            "language_model": keras.saving.serialize_keras_object(self.language_model),
            "weight": self.weight,
            "classes": self.classes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LanguageModelFusion":
        model = keras.saving.deserialize_keras_object(config["language_model"])
        return cls(**{**config, "language_model": model})


def _chosen(condition: Tensor, one: Any, other: Any) -> Any:
    """One structure of tensors where the condition, boolean `(rows,)`, is True."""

    def of(one: Tensor, other: Tensor) -> Tensor:
        return ops.where(ops.reshape(condition, (-1, *(1 for _ in one.shape[1:]))), one, other)

    return tree.map_structure(of, one, other)
