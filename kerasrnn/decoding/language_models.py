"""Language models of symbols, which a search for label sequences reads step by step."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.decoding.decoder import Decoder
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.text.ngrams import Automaton, NGrams
from kerasrnn.validation import PositiveInteger

Tensor = Any


class LanguageModel(BaseLayer):
    """The base class of language models over the classes of connectionist temporal classification.

        score_1, s_1 = initial(rows)
        score_{n+1}, s_{n+1} = step(l_n, s_n)

    Scores are log-probabilities of the next label, `(rows, classes)`; that of the blank is the
    log-probability that the sequence ends. A state is a structure of tensors `(rows, ...)`.
    """

    def initial(self, rows: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        """The scores of the first label, and the state.

        Args:
            rows: number of rows.
            classes: number of classes, including the blank.
            blank: the class of the blank.
        """
        # Abstract: every language model defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `initial`.")

    def step(self, labels: Tensor, state: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        """The scores of the label after these, int32 `(rows,)`, and the state."""
        # Abstract: every language model defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")


@keras.saving.register_keras_serializable(package="kerasrnn")
class NGramLanguageModel(LanguageModel):
    """An n-gram model of label sequences, as a table of contexts and labels.

    Args:
        states: number of contexts. `from_ngrams` sets it.
        classes: number of classes, including the blank.

    Raises:
        ValueError: an argument is not a positive integer.

    Example:

        >>> import numpy as np, kerasrnn
        >>> ngrams = kerasrnn.NGrams.of_sequences([[1, 2], [1, 3, 2]], order=2)
        >>> model = kerasrnn.decoding.NGramLanguageModel.from_ngrams(ngrams, classes=4)
        >>> scores, _ = model.initial(1, 4, 0)
        >>> int(np.asarray(scores).argmax())
        1
    """

    @validation.checked
    def __init__(self, states: PositiveInteger, classes: PositiveInteger, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.states, self.classes = states, classes
        shape = (states, classes)
        options = {"initializer": "zeros", "trainable": False}
        self.log_probabilities = self.add_weight(
            shape=shape, dtype="float32", name="log_probabilities", **options
        )
        self.of_end = self.add_weight(shape=(states,), dtype="float32", name="of_end", **options)
        self.following = self.add_weight(shape=shape, dtype="int32", name="following", **options)
        self.start = self.add_weight(shape=(), dtype="int32", name="start", **options)
        self.built = True

    @classmethod
    def from_ngrams(cls, ngrams: NGrams, classes: int, **kwargs: Any) -> "NGramLanguageModel":
        """The table of a model of sequences.

        Args:
            ngrams: from `kerasrnn.NGrams.of_sequences`: its ids are the classes.
            classes: number of classes, including the blank.
            **kwargs: arguments of the layer, such as its name.

        Raises:
            ValueError: `ngrams` is not such a model, one of its ids is not a class, or the table
                has too many entries.
        """
        if not isinstance(ngrams, NGrams):
            raise validation.ArgumentError("ngrams", ngrams, "a kerasrnn.NGrams")
        table: Automaton = ngrams.automaton(classes)
        model = cls(len(table.of_end), classes, **kwargs)
        model.log_probabilities.assign(table.log_probabilities)
        model.of_end.assign(table.of_end)
        model.following.assign(table.following)
        model.start.assign(table.start)
        return model

    def initial(self, rows: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        if classes != self.classes:
            raise ValueError(
                f"the language model has {self.classes} classes, and the outputs {classes}: "
                "expected equal numbers."
            )
        state = ops.broadcast_to(ops.convert_to_tensor(self.start), (rows,))
        return self._scores(state, blank), state

    def step(self, labels: Tensor, state: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        flat = ops.reshape(ops.convert_to_tensor(self.following), (-1,))
        state = ops.take(flat, state * self.classes + labels)
        return self._scores(state, blank), state

    def _scores(self, state: Tensor, blank: int) -> Tensor:
        scores = ops.take(ops.convert_to_tensor(self.log_probabilities), state, axis=0)
        of_end = ops.take(ops.convert_to_tensor(self.of_end), state)
        return ops.where(ops.arange(self.classes) == blank, ops.expand_dims(of_end, 1), scores)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "states": self.states, "classes": self.classes}


@keras.saving.register_keras_serializable(package="kerasrnn")
class RecurrentLanguageModel(LanguageModel):
    """A recurrent model of label sequences: the decoder of a language model, step by step.

    Its ids are the classes: those of the labels come first, then its `start` and `end`. Id 0 is
    padding there and the blank here.

    Args:
        decoder: a `kerasrnn.Decoder` of classes, without a context: `model.get_layer("decoder")` of
            a model of `zoo.next_step`.
        start: the id that precedes the first label.
        end: the id that follows the last one; None: every end is equally probable.

    Raises:
        ValueError: the decoder is of another kind, or an id is not one of its classes.

    Example:

        >>> import kerasrnn
        >>> from kerasrnn import zoo
        >>> model = zoo.next_step(zoo.Classes(6), "gru", units=8)        # 4 is start, 5 is end
        >>> language_model = kerasrnn.decoding.RecurrentLanguageModel(
        ...     model.get_layer("decoder"), start=4, end=5)
        >>> tuple(language_model.initial(rows=2, classes=4, blank=0)[0].shape)
        (2, 4)
    """

    @validation.checked
    def __init__(self, decoder: Decoder, start: int, end: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(decoder, Decoder) or decoder.kind != "classes":
            raise validation.ArgumentError("decoder", decoder, "a kerasrnn.Decoder of classes")
        if decoder.context is not None or decoder.attention is not None:
            raise ValueError("decoder: has a context or an attention; expected neither.")
        validation.integer("start", start, 1, decoder.size - 1)
        if end is not None:
            validation.integer("end", end, 1, decoder.size - 1)
        self.decoder, self.start, self.end = decoder, start, end

    def build(self, *_: Any) -> None:
        if not self.decoder.built:
            self.decoder.build((None, None))
        self.built = True

    def initial(self, rows: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        if blank != 0:
            raise ValueError(f"blank={blank}: expected 0 with a recurrent language model.")
        if classes > self.decoder.size:
            raise ValueError(
                f"the language model has {self.decoder.size} classes, and the outputs {classes}: "
                "expected as many or fewer."
            )
        start = ops.full((rows,), self.start, dtype="int32")
        return self.step(start, self.decoder.initial_states(None, rows), classes, blank)

    def step(self, labels: Tensor, state: Any, classes: int, blank: int) -> tuple[Tensor, Any]:
        logits, state = self.decoder.step(labels, state)
        log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        of_end = ops.zeros_like(log_p[:, :1])
        if self.end is not None:
            of_end = log_p[:, self.end : self.end + 1]
        return ops.concatenate([of_end, log_p[:, 1:classes]], axis=1), state

    def get_config(self) -> dict[str, Any]:
        decoder = keras.saving.serialize_keras_object(self.decoder)
        decoder.pop("build_config", None)
        config = {"decoder": decoder, "start": self.start, "end": self.end}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RecurrentLanguageModel":
        decoder = keras.saving.deserialize_keras_object(config["decoder"])
        return cls(**{**config, "decoder": decoder})


class WordList:
    """The words of a list as a tree of their labels, which a search follows.

    The root is node 0. A label leads to a node, or to -1: no word begins like this.

    Args:
        words: sequences of labels.
        separator: the label between words; None: a sequence is a single word.
        classes: number of classes.
        blank: the class of the blank.

    Raises:
        ValueError: the separator is not a class, or a word contains the blank, the separator or
            what is not a class.
    """

    def __init__(
        self, words: Sequence[Sequence[int]], separator: int | None, classes: int, blank: int
    ) -> None:
        if separator is not None and separator >= classes:
            raise ValueError(
                f"separator={separator}: expected a class of the outputs, 0 to {classes - 1}."
            )
        nodes: list[dict[int, int]] = [{}]
        complete = [False]
        for n, word in enumerate(words):
            node = 0
            for label in word:
                if not 0 <= label < classes or label in (blank, separator):
                    raise ValueError(
                        f"word_list[{n}]={word!r}: expected classes from 0 to {classes - 1}, other "
                        "than the blank and the separator."
                    )
                if label not in nodes[node]:
                    nodes[node][label] = len(nodes)
                    nodes.append({})
                    complete.append(False)
                node = nodes[node][label]
            complete[node] = True
        self.following = np.full((len(nodes), classes), -1, "int32")
        for node, labels in enumerate(nodes):
            self.following[node, list(labels)] = list(labels.values())
        if separator is not None:
            self.following[complete, separator] = 0
        allowed = self.following >= 0
        # A sequence ends after a word, after a separator, or without any word.
        allowed[:, blank] = complete
        allowed[0, blank] = True
        self.scores = np.where(allowed, 0, NEVER).astype("float32")

    def initial(self, rows: Any) -> tuple[Tensor, Tensor]:
        """0 for each label that may be next, `NEVER` for others, `(rows, classes)`; that of the
        blank is of the end. And the node."""
        node = ops.zeros((rows,), dtype="int32")
        return self._scores(node), node

    def step(self, labels: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        """See `initial`. What follows a label that was not allowed is undefined."""
        flat = ops.convert_to_tensor(self.following.reshape(-1))
        node = ops.maximum(ops.take(flat, node * self.following.shape[1] + labels), 0)
        return self._scores(node), node

    def _scores(self, node: Tensor) -> Tensor:
        return ops.take(ops.convert_to_tensor(self.scores), node, axis=0)
