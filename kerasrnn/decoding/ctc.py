"""Decoders of connectionist temporal classification: the best path, and a prefix beam search."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.base_layer import boolean_mask, check_steps
from kerasrnn.decoding import loop
from kerasrnn.decoding.alignment import left_aligned, start_times
from kerasrnn.decoding.beam import most_probable
from kerasrnn.decoding.label_decoder import LabelDecoder, Labels
from kerasrnn.decoding.language_models import LanguageModel, WordList
from kerasrnn.decoding.loop import selected, taken, written
from kerasrnn.decoding.predictions import Wording, check_predictions
from kerasrnn.recurrence import log_semiring
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import NonNegativeInteger, NonNegativeNumber, PositiveInteger

Tensor = Any


class CTCDecoder(LabelDecoder):
    """The base class of decoders: from the outputs of a model to label sequences."""

    def __init__(
        self,
        blank: int,
        from_logits: bool,
        return_lengths: bool,
        return_scores: bool,
        return_times: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(return_lengths, return_scores, return_times, **kwargs)
        self.blank, self.from_logits = blank, from_logits

    def build(self, *_: Any) -> None:
        self.built = True

    def call(self, outputs: Tensor, mask: Tensor | None = None) -> Any:
        outputs = ops.convert_to_tensor(outputs)
        self._check_shape(outputs)
        scores = ops.cast(outputs, "float32")
        shape = ops.shape(scores)[:2]
        if mask is None:
            used = ops.ones(shape, dtype="bool")
            check_predictions(outputs, None, self.from_logits, Wording("outputs"))
        else:
            used = boolean_mask(f"{self.name}: mask", mask, tuple(outputs.shape[:2]))
            check_predictions(outputs, used, self.from_logits, Wording("outputs"))
            scores = ops.where(ops.expand_dims(used, -1), scores, 1 / scores.shape[-1])
        if self.from_logits:
            log_p = ops.log_softmax(scores, axis=-1)
        else:
            log_p = ops.log(ops.maximum(scores, float(np.finfo("float32").tiny)))
        return self._requested(self.decode(ops.maximum(log_p, NEVER), used))

    def decode(self, log_p: Tensor, used: Tensor) -> Labels:
        """Find the labels.

        Args:
            log_p: log-probabilities, float32 `(batch, time, classes)`.
            used: the frames in use, boolean `(batch, time)`.
        """
        # Abstract: every decoder defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `decode`.")

    def compute_output_spec(self, outputs: Any, mask: Any = None) -> Any:
        self._check_shape(outputs)
        return self._spec(*outputs.shape[:2])

    def _check_shape(self, outputs: Any) -> None:
        shape = tuple(outputs.shape)
        if len(shape) != 3 or shape[-1] is None or not self.blank < shape[-1]:
            raise ValueError(
                f"{self.name}: outputs of the shape {shape}: expected (batch, time, classes), with "
                f"the blank, class {self.blank}, among the classes."
            )
        check_steps(f"{self.name}: outputs", outputs)

    def get_config(self) -> dict[str, Any]:
        options = {"blank": self.blank, "from_logits": self.from_logits}
        return {**super().get_config(), **options}


@keras.saving.register_keras_serializable(package="kerasrnn")
class CTCGreedy(CTCDecoder):
    """The labels of the best path: the most probable class of each frame.

        π_t = argmax_k p_t(k)
        l = B(π)

    where B drops repeated labels, then blanks (Graves et al. 2006, "Connectionist temporal
    classification: labelling unsegmented sequence data with recurrent neural networks"). The most
    probable labels may be others, which several paths write: `CTCBeam` adds up their probabilities.

    Args:
        blank: the class of the blank, which also pads the result.
        from_logits: whether the outputs are logits.
        return_lengths: whether to also return the number of labels.
        return_scores: whether to also return the log-probability of the path.
        return_times: whether to also return the frame at which each label begins.

    Call arguments:
        outputs: probabilities or logits, `(batch, time, classes)`.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to the
            outputs, if any.

    Returns:
        ids `(batch, time)`, int32, left-aligned and padded with the blank. Then, if requested, the
        lengths, int32 `(batch,)`; the scores, float32 `(batch,)`; the frames, int32 `(batch,
        time)`, -1 for padding.

    Masking: masked frames are skipped, at any position; no mask is passed on.

    Raises:
        ValueError: an argument is out of its range, the outputs have another shape, or contradict
            `from_logits`: see `kerasrnn.losses.SequenceCrossentropy`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> p = np.eye(3)[[[1, 1, 0, 1, 2]]]
        >>> labels, times = kerasrnn.decoding.CTCGreedy(return_times=True)(p)
        >>> np.asarray(labels).tolist(), np.asarray(times).tolist()
        ([[1, 1, 2, 0, 0]], [[0, 3, 4, -1, -1]])
    """

    @validation.checked
    def __init__(
        self,
        blank: NonNegativeInteger = 0,
        from_logits: bool = False,
        return_lengths: bool = False,
        return_scores: bool = False,
        return_times: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(blank, from_logits, return_lengths, return_scores, return_times, **kwargs)

    def decode(self, log_p: Tensor, used: Tensor) -> Labels:
        return best_path(log_p, used, self.blank)


def best_path(scores: Tensor, used: Tensor, blank: int) -> Labels:
    """The labels of the best path, and the sum of its scores.

    Args:
        scores: of any kind, float32 `(batch, time, classes)`: the highest is the best.
        used: the frames in use, boolean `(batch, time)`.
        blank: the class of the blank.
    """
    # Not `ops.argmax`: see `samplers.Greedy`.
    best, path = ops.top_k(scores, 1)
    frames = ops.broadcast_to(ops.arange(ops.shape(used)[1], dtype="int32"), ops.shape(used))
    (path, frames), _ = left_aligned(used, [ops.cast(path[..., 0], "int32"), frames], [blank, -1])
    before = ops.pad(path[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    begins = (path != before) & (path != blank)
    (labels, times), lengths = left_aligned(begins, [path, frames], [blank, -1])
    return Labels(labels, lengths, ops.sum(ops.where(used, best[..., 0], 0), axis=1), times)


@keras.saving.register_keras_serializable(package="kerasrnn")
class CTCBeam(CTCDecoder):
    """A prefix beam search for the most probable labels, with a language model and a word list.

        score(l) = log P(l | x) + α log P_LM(l) + β |l|

    The search follows the frames, and keeps the `width` best prefixes: for each, the probability of
    the paths that write it and end in a blank, and of those that end in its last label (Graves &
    Jaitly 2014, "Towards end-to-end speech recognition with recurrent neural networks"; Hannun et
    al. 2014, "First-pass large vocabulary continuous speech recognition using bi-directional
    recurrent DNNs"). A frame leaves a prefix as it is or extends it by a label, which the language
    model scores; different paths to one prefix are added up. P(l | x) is thus the sum over all
    paths, as in `kerasrnn.losses.CTC`, except for those that the beam has dropped. At the end, the
    language model scores the end of the labels.

    The whole search is one graph on every backend, in the loop of `kerasrnn.decoding`: call it in a
    model's `predict`, where it is compiled.

    Args:
        width: the number of prefixes.
        language_model: a `kerasrnn.decoding.NGramLanguageModel`, `RecurrentLanguageModel` or other
            `LanguageModel`; None: no language model.
        language_weight: α, 0 or more.
        insertion_bonus: β, of each label: a language model favours short sequences.
        word_list: the only words that may be written: sequences of ids; None: any labels.
        separator: the id between words; None: all labels together are one word of the list.
        n_best: the number of results for each row, the best first; None: only the best, without an
            axis for several.
        blank: the class of the blank, which also pads the result.
        from_logits: whether the outputs are logits.
        return_lengths: whether to also return the number of labels.
        return_scores: whether to also return the scores.
        return_times: whether to also return the frame at which each label begins, on the most
            probable path that writes these labels.

    Call arguments:
        outputs: probabilities or logits, `(batch, time, classes)`.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to the
            outputs, if any.

    Returns:
        ids `(batch, time)`, int32, left-aligned and padded with the blank. Then, if requested, the
        lengths, int32 `(batch,)`; the scores, float32 `(batch,)`; the frames, int32 `(batch,
        time)`, -1 for padding. With `n_best`, all of them have a second axis; if fewer sequences
        are found, and if the words allow none, the others have the length 0 and the score -1e30.

    Masking: masked frames are skipped, at any position; no mask is passed on.

    Raises:
        ValueError: an argument is out of its range, a word or the separator is not of labels, or
            the outputs have another shape or number of classes than the language model, or
            contradict `from_logits`: see `kerasrnn.losses.SequenceCrossentropy`.

    Example: the blank is the most probable class of each frame, but most paths write a label.

        >>> import numpy as np, kerasrnn
        >>> p = np.array([[[0.6, 0.4], [0.6, 0.4]]], "float32")
        >>> labels, scores = kerasrnn.decoding.CTCBeam(width=2, return_scores=True)(p)
        >>> np.asarray(labels).tolist(), round(float(np.exp(scores[0])), 2)
        ([[1, 0]], 0.64)
        >>> np.asarray(kerasrnn.decoding.CTCGreedy()(p)).tolist()
        [[0, 0]]
    """

    @validation.checked
    def __init__(
        self,
        width: PositiveInteger = 10,
        language_model: LanguageModel | None = None,
        language_weight: NonNegativeNumber = 1.0,
        insertion_bonus: float = 0.0,
        word_list: Sequence[Sequence[int]] | None = None,
        separator: int | None = None,
        n_best: int | None = None,
        blank: NonNegativeInteger = 0,
        from_logits: bool = False,
        return_lengths: bool = False,
        return_scores: bool = False,
        return_times: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(blank, from_logits, return_lengths, return_scores, return_times, **kwargs)
        if n_best is not None:
            n_best = validation.integer("n_best", n_best, minimum=1, maximum=width)
        if language_model is not None and not isinstance(language_model, LanguageModel):
            raise validation.ArgumentError(
                "language_model", language_model, "a kerasrnn.decoding.LanguageModel", "None"
            )
        if word_list is None and separator is not None:
            raise ValueError(f"separator={separator!r}: expected None without a word_list.")
        self.width, self.n_best = width, n_best
        self.language_model = language_model
        self.language_weight, self.insertion_bonus = language_weight, insertion_bonus
        if separator is not None:
            separator = validation.integer("separator", separator, minimum=0)
            if separator == blank:
                raise ValueError(f"separator={separator}: expected another id than the blank.")
        self.word_list = None if word_list is None else _words(word_list)
        self.separator = separator

    def build(self, *_: Any) -> None:
        if self.language_model is not None and not self.language_model.built:
            self.language_model.build()
        self.built = True

    def decode(self, log_p: Tensor, used: Tensor) -> Labels:
        batch, time = ops.shape(used)
        rows, classes = batch * self.width, log_p.shape[-1]
        model, words = self.language_model, None
        if self.word_list is not None:
            words = WordList(self.word_list, self.separator, classes, self.blank)
        searched = _PrefixSearch(self, log_p, used, model is not None or words is not None)

        def scored(of_model: Any, of_words: Any) -> tuple[Tensor | None, Any]:
            """The score of each label, and of the end in the place of the blank; and the state."""
            scores, states = [], []
            if model is not None:
                scores.append(self.language_weight * of_model[0])
                states.append(of_model[1])
            if words is not None:
                scores.append(of_words[0])
                states.append(of_words[1])
            return sum(scores[1:], scores[0]) if scores else None, states

        def step(previous: Tensor, states: Any) -> tuple[Tensor | None, Any, None]:
            """Score what may follow each prefix; `previous` is the label added, or the blank."""
            if not states:
                return None, states, None
            before, (scores, inner) = list(states[1]), states
            # A row without a new label is computed with any, and keeps its scores and its state.
            extended = previous != self.blank
            labels = ops.where(extended, previous, 0 if self.blank else 1)
            of_model = of_words = None
            if model is not None:
                of_model = model.step(labels, before.pop(0), classes, self.blank)
            if words is not None:
                of_words = words.step(labels, before.pop(0))
            new = scored(of_model, of_words)

            def chosen(new: Tensor, old: Tensor) -> Tensor:
                rank = len(old.shape) - 1
                condition = ops.reshape(extended, (-1, *(1 for _ in range(rank))))
                return ops.where(condition, new, old)

            states = tree.map_structure(chosen, tuple(new), (scores, inner))
            return states[0], states, None

        states: Any = ()
        if model is not None or words is not None:
            of_model = None if model is None else model.initial(rows, classes, self.blank)
            states = scored(of_model, None if words is None else words.initial(rows))
        blanks = ops.full((rows,), self.blank, dtype="int32")
        # A step more than the frames: it only scores the ends.
        found = loop.decode(step, searched, blanks, tuple(states), time + 1)
        if self.return_times:
            found = found._replace(times=self._times(found, log_p, used))
        if self.n_best is not None:
            return found
        return Labels(*(array[:, 0] for array in found))

    def _times(self, found: Labels, log_p: Tensor, used: Tensor) -> Tensor:
        count = self.n_best or 1
        shape = ops.shape(found.labels)
        log_p, used = (ops.repeat(x, count, axis=0) if count > 1 else x for x in (log_p, used))
        labels = ops.reshape(found.labels, (-1, shape[2]))
        lengths = ops.reshape(found.lengths, (-1,))
        return ops.reshape(start_times(log_p, labels, lengths, used, self.blank), shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "language_model": keras.saving.serialize_keras_object(self.language_model),
            "language_weight": self.language_weight,
            "insertion_bonus": self.insertion_bonus,
            "word_list": self.word_list,
            "separator": self.separator,
            "n_best": self.n_best,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CTCBeam":
        model = keras.saving.deserialize_keras_object(config["language_model"])
        return cls(**{**config, "language_model": model})


def _words(word_list: Any) -> list[list[int]]:
    if isinstance(word_list, (str, bytes)) or not np.iterable(word_list) or not len(word_list):
        raise validation.ArgumentError("word_list", word_list, "a list of words", "None")
    words = []
    for n, word in enumerate(word_list):
        if isinstance(word, (str, bytes)) or not np.iterable(word) or not len(word):
            raise ValueError(f"word_list[{n}]={word!r}: expected a sequence of ids.")
        words.append([validation.integer(f"word_list[{n}]", label) for label in word])
    return words


class _Memory(NamedTuple):
    # Of every frame: what became of each prefix.
    labels: Tensor  # (time, batch, width): the label added, or the blank
    parents: Tensor  # (time, batch, width): the index of the prefix before
    # Of every prefix, (batch, width).
    blanks: Tensor  # the log-probability of the paths that end in a blank
    emit: Tensor  # and of those that end in the last label
    last: Tensor  # the last label, or the blank if there is none
    bonus: Tensor  # of the language model, the words and the insertions
    of_end: Tensor  # the score of its end
    # Two hashes of its labels, and of those without the last one: equal for equal prefixes.
    hashes: tuple[Tensor, Tensor]
    parent_hashes: tuple[Tensor, Tensor]


MULTIPLIERS = (1_000_003, -1_640_531_535)
"""Odd numbers, by which hashes are multiplied, modulo 2^32."""


class _PrefixSearch:
    """The policy of `CTCBeam`: see `loop.Policy`.

    The candidates of a frame are the prefixes, each as it is, and each extended by each label. An
    extension that is already a prefix is the same candidate: its probability is added to that. So
    no two candidates are equal, and the best are selected at once.
    """

    selects = False

    def __init__(self, beam: CTCBeam, log_p: Tensor, used: Tensor, scores: bool) -> None:
        self.beam, self.scores = beam, scores
        self.batch, self.time = ops.shape(used)
        self.classes = log_p.shape[-1]
        # One frame more, which is not in use, for the last step.
        self.log_p = ops.pad(ops.transpose(log_p, (1, 0, 2)), ((0, 1), (0, 0), (0, 0)))
        self.used = ops.pad(ops.transpose(used), ((0, 1), (0, 0)))

    def initialize(self, selecting: bool = False) -> _Memory:
        shape, blank = (self.batch, self.beam.width), self.beam.blank
        never = ops.full(shape, NEVER, dtype="float32")
        # At first there is the empty prefix, and nothing else.
        start = ops.where(ops.arange(self.beam.width) == 0, ops.zeros_like(never), never)
        zeros = ops.zeros(shape, dtype="int32")
        frames = (self.time + 1, *shape)
        return _Memory(
            labels=ops.full(frames, blank, dtype="int32"),
            parents=ops.zeros(frames, dtype="int32"),
            blanks=start,
            emit=never,
            last=ops.full(shape, blank, dtype="int32"),
            bonus=ops.zeros_like(never),
            of_end=ops.zeros_like(never),
            hashes=(zeros, zeros),
            parent_hashes=(zeros, zeros),
        )

    def unfinished(self, memory: _Memory) -> Tensor:
        return ops.ones((self.batch,), dtype="bool")

    def choose(
        self, t: Tensor, scores: Tensor | None, attention: None, states: Any, memory: _Memory
    ) -> tuple[Tensor, Any, _Memory]:
        width, classes, blank = self.beam.width, self.classes, self.beam.blank
        log_p = ops.take(self.log_p, t, axis=0)  # (batch, classes)
        used = ops.expand_dims(ops.take(self.used, t, axis=0), 1)
        bonus = ops.expand_dims(memory.bonus, 2)
        of_end = memory.of_end
        if scores is not None:
            scores = ops.reshape(ops.maximum(scores, NEVER), (-1, width, classes))
            of_end = scores[:, :, blank]
            bonus = bonus + scores
        bonus = bonus + self.beam.insertion_bonus

        # Each prefix as it is: with a blank, and with its last label again.
        total = log_semiring.add(memory.blanks, memory.emit)
        exists = log_semiring.possible(total)
        is_empty = memory.last == blank
        with_blank = total + log_p[:, blank : blank + 1]
        again = memory.emit + ops.where(
            is_empty, NEVER, ops.take_along_axis(log_p, memory.last, axis=1)
        )
        # Each extended by each label. After the same label, only paths that end in a blank are.
        is_last = ops.expand_dims(memory.last, 2) == ops.arange(classes, dtype="int32")
        ending = ops.where(is_last, ops.expand_dims(memory.blanks, 2), ops.expand_dims(total, 2))
        extended = ending + ops.expand_dims(log_p, 1)  # (batch, width, classes)

        # same[i, j]: prefix i with the last label of prefix j is prefix j.
        by_last = ops.take_along_axis(
            extended,
            ops.broadcast_to(ops.expand_dims(memory.last, 1), (self.batch, width, width)),
            axis=2,
        )
        same = ops.expand_dims(exists, 2) & ops.expand_dims(exists & ~is_empty, 1)
        for of_i, of_j in zip(memory.hashes, memory.parent_hashes, strict=True):
            same = same & (ops.expand_dims(of_i, 2) == ops.expand_dims(of_j, 1))
        merged = ops.max(ops.where(same, by_last, NEVER), axis=1)  # at most one of them
        again = log_semiring.add(again, merged)
        one_hot = ops.expand_dims(memory.last, 1) == ops.reshape(
            ops.arange(classes, dtype="int32"), (1, classes, 1)
        )  # (batch, classes, width): is c the last label of j?
        is_prefix = (
            ops.matmul(
                ops.cast(same, "float32"), ops.cast(ops.transpose(one_hot, (0, 2, 1)), "float32")
            )
            > 0
        )

        # One array of candidates: a prefix as it is takes the place of its blank.
        stays = ops.reshape(ops.arange(classes) == blank, (1, 1, classes))
        kept = ops.expand_dims(log_semiring.add(with_blank, again) + memory.bonus, 2)
        candidates = ops.where(is_prefix, NEVER, extended + bonus)
        candidates = ops.where(stays, kept, candidates)
        best, indices = most_probable(ops.zeros_like(total), candidates)
        parents = ops.where(used, indices // classes, ops.arange(width, dtype="int32"))
        labels = ops.where(used, indices % classes, blank)

        is_new = labels != blank
        flat = parents * classes + labels
        probability = taken(ops.reshape(extended, (-1, width * classes)), flat)
        probability = ops.where(log_semiring.possible(best), probability, NEVER)
        new_bonus = taken(
            ops.reshape(bonus + ops.zeros_like(extended), (-1, width * classes)), flat
        )

        def of_parent(array: Tensor) -> Tensor:
            return taken(array, parents)

        def chosen(new: Tensor, stayed: Tensor) -> Tensor:
            return ops.where(is_new, new, of_parent(stayed))

        hashes = tuple(
            ops.where(is_new, of_parent(h) * m + labels + 1, of_parent(h))
            for h, m in zip(memory.hashes, MULTIPLIERS, strict=True)
        )
        parent_hashes = tuple(
            chosen(of_parent(h), p)
            for h, p in zip(memory.hashes, memory.parent_hashes, strict=True)
        )
        first = ops.expand_dims(ops.arange(self.batch, dtype="int32") * width, 1)
        states = selected(ops.reshape(first + parents, (-1,)), states)
        never = ops.full_like(probability, NEVER)
        memory = _Memory(
            labels=written(memory.labels, t, labels),
            parents=written(memory.parents, t, parents),
            blanks=chosen(never, ops.where(used, with_blank, memory.blanks)),
            emit=chosen(probability, ops.where(used, again, memory.emit)),
            last=chosen(labels, memory.last),
            bonus=chosen(new_bonus, memory.bonus),
            of_end=of_parent(of_end),
            hashes=hashes,
            parent_hashes=parent_hashes,
        )
        return ops.reshape(labels, (-1,)), states, memory

    def finalize(self, memory: _Memory) -> Labels:
        """Trace the best prefixes back to the first frame."""
        blank, count = self.beam.blank, self.beam.n_best or 1
        scores = log_semiring.add(memory.blanks, memory.emit) + memory.bonus + memory.of_end
        scores, places = ops.top_k(scores, count)  # (batch, count)
        found = log_semiring.possible(scores)

        def back(place: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            labels, parents = x
            return taken(parents, place), taken(labels, place)

        keep = ops.ones((self.time, self.batch, 1), dtype="bool")
        of_frames = (memory.labels[: self.time], memory.parents[: self.time])
        _, path = log_semiring.scan(back, ops.cast(places, "int32"), of_frames, keep, reverse=True)
        path = ops.reshape(ops.transpose(path, (1, 2, 0)), (-1, self.time))
        is_label = (path != blank) & ops.reshape(found, (-1, 1))
        (labels,), lengths = left_aligned(is_label, [path], [blank])
        shape = (-1, count, self.time)
        labels = ops.reshape(labels, shape)
        return Labels(
            labels,
            ops.reshape(lengths, (-1, count)),
            ops.where(found, scores, NEVER),
            ops.zeros_like(labels),
        )
