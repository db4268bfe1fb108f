"""Decoders of transducers: the best path, and a beam search; at once, or chunk by chunk."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import keras
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.base_layer import boolean_mask, check_steps
from kerasrnn.decoding import loop
from kerasrnn.decoding.alignment import left_aligned
from kerasrnn.decoding.beam import most_probable
from kerasrnn.decoding.label_decoder import LabelDecoder, Labels
from kerasrnn.decoding.language_models import LanguageModel
from kerasrnn.decoding.loop import selected, taken, written
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.recurrence import dynamic, log_semiring
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import ArgumentError, NonNegativeNumber, PositiveInteger

Tensor = Any

MULTIPLIERS = (1_000_003, -1_640_531_535)
"""Odd numbers, by which hashes are multiplied, modulo 2^32."""


@runtime_checkable
class Head(Protocol):
    """What decoders call of a `kerasrnn.Transducer`."""

    classes: int

    def project(self, encoded: Tensor) -> Tensor: ...
    def initial_state(self, rows: Any) -> Any: ...
    def step(self, labels: Tensor, state: Any) -> Any: ...
    def log_p(self, frames: Tensor, state: Any) -> Tensor: ...


class TransducerDecoder(LabelDecoder):
    """The base class of decoders of transducers, in three steps.

        state = initial_state(rows)
        state = advance(encoded, state, mask)       for all frames, or for one chunk after another
        labels = found(state)                       of the frames so far

    A call is these three. So chunks have the same result as all frames at once.
    """

    def __init__(
        self,
        head: keras.layers.Layer,
        max_symbols: int,
        return_lengths: bool,
        return_scores: bool,
        return_times: bool,
        **kwargs: Any,
    ) -> None:
        if not isinstance(head, Head):
            raise ArgumentError("head", head, "a kerasrnn.Transducer")
        super().__init__(return_lengths, return_scores, return_times, **kwargs)
        self.head, self.max_symbols = head, max_symbols

    def build(self, encoded_shape: Any, *_: Any) -> None:
        if not self.head.built:
            self.head.build(encoded_shape, (None, None))
        self.built = True

    def call(self, encoded: Tensor, mask: Tensor | None = None) -> Any:
        encoded = ops.convert_to_tensor(encoded)
        state = self.advance(encoded, self.initial_state(ops.shape(encoded)[0]), mask)
        return self._requested(self.found(state))

    def initial_state(self, rows: Any) -> Any:
        """The state before the first frame.

        Args:
            rows: number of rows.
        """
        # Abstract: every decoder defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `initial_state`.")

    def advance(self, encoded: Tensor, state: Any, mask: Tensor | None = None) -> Any:
        """The state after these frames, too.

        Args:
            encoded: the next frames, `(batch, time, features)`.
            state: from `initial_state` or `advance`.
            mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to the
                frames, if any.
        """
        mask = get_keras_mask(encoded) if mask is None else mask
        encoded = ops.convert_to_tensor(encoded)
        check_steps(f"{self.name}: encoded", encoded)
        if not self.built:
            self.build(tuple(encoded.shape))
        if mask is None:
            used = ops.ones(ops.shape(encoded)[:2], dtype="bool")
        else:
            shape = tuple(encoded.shape[:2])
            used = boolean_mask(f"{self.name}: mask", mask, shape, used="a frame is")
            encoded = ops.where(ops.expand_dims(used, 2), encoded, 0)
        return self._advanced(self.head.project(encoded), used, state)

    def _advanced(self, frames: Tensor, used: Tensor, state: Any) -> Any:
        # Abstract: every decoder defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `_advanced`.")

    def found(self, state: Any) -> Labels:
        """The labels of the frames so far, with lengths, scores and times.

        Args:
            state: from `advance`.

        Raises:
            ValueError: the state has read no frames.
        """
        # Abstract: every decoder defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `found`.")

    def _history(self, state: Any) -> Any:
        """That of the frames, of which there must be some."""
        if not state.history:
            raise ValueError(
                f"{self.name}: state: has read no frames yet; expected a state from advance."
            )
        return state.history

    def compute_output_spec(self, encoded: Any, mask: Any = None) -> Any:
        if len(encoded.shape) != 3:
            raise ValueError(
                f"{self.name}: encoded of the shape {tuple(encoded.shape)}: expected (batch, time, "
                "features), the input of the transducer."
            )
        batch, time, _ = encoded.shape
        return self._spec(batch, None if time is None else time * self.max_symbols)

    def get_config(self) -> dict[str, Any]:
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head, "max_symbols": self.max_symbols}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        head = keras.saving.deserialize_keras_object(config["head"], custom_objects)
        return cls(**{**config, "head": head})


class _Path(NamedTuple):
    """The state of `TransducerGreedy`."""

    network: Any
    scores: Tensor  # (batch,)
    frames: Tensor  # the number of frames so far
    history: tuple[tuple[Tensor, Tensor], ...]
    """Of each chunk the labels and times, `(batch, time * max_symbols)`."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class TransducerGreedy(TransducerDecoder):
    """The labels of a transducer's best path: at each node, the most probable move.

        k = argmax_k p(k | t, u),    (t, u) → (t + 1, u) if k = 0, else l_{u+1} = k, (t, u + 1)

    The most probable labels may be others, which several paths write: `TransducerBeam` adds up
    their probabilities (Graves 2012, "Sequence transduction with recurrent neural networks").

    The rows of a batch go through their frames independently of each other. The search is one graph
    on every backend, in the loop of `kerasrnn.decoding`: call it in a model's `predict`, where it
    is compiled.

    Args:
        head: the trained `kerasrnn.Transducer`, whose weights this layer shares.
        max_symbols: the maximum number of labels at a frame. After them, the next frame follows.
        return_lengths: whether to also return the number of labels.
        return_scores: whether to also return the log-probability of the path.
        return_times: whether to also return the frame at which each label is written.

    Call arguments:
        encoded: the outputs of the encoder, `(batch, time, features)`.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to the
            outputs, if any.

    Returns:
        ids `(batch, time * max_symbols)`, int32, left-aligned and padded with 0. Then, if
        requested, the lengths, int32 `(batch,)`; the scores, float32 `(batch,)`; the frames, int32
        `(batch, time * max_symbols)`, -1 for padding.

    Masking: masked frames are skipped, at any position; no mask is passed on.

    Raises:
        ValueError: an argument is out of its range, or the outputs have another shape.

    Example: chunk by chunk, as the frames arrive.

        >>> import numpy as np, kerasrnn
        >>> transducer = kerasrnn.Transducer(5, [kerasrnn.GRU(4)])
        >>> greedy = kerasrnn.decoding.TransducerGreedy(transducer)
        >>> encoded = np.random.default_rng(0).normal(size=(1, 6, 3)).astype("float32")
        >>> labels = np.asarray(greedy(encoded))
        >>> state = greedy.initial_state(rows=1)
        >>> for chunk in (encoded[:, :4], encoded[:, 4:]):
        ...     state = greedy.advance(chunk, state)
        >>> bool((np.asarray(greedy.found(state).labels) == labels).all())
        True
    """

    @validation.checked
    def __init__(
        self,
        head: keras.layers.Layer,
        max_symbols: PositiveInteger = 5,
        return_lengths: bool = False,
        return_scores: bool = False,
        return_times: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(head, max_symbols, return_lengths, return_scores, return_times, **kwargs)

    def initial_state(self, rows: Any) -> _Path:
        network = self.head.initial_state(rows)
        zero = ops.zeros((), dtype="int32")
        return _Path(network, ops.zeros((rows,), dtype="float32"), zero, ())

    def _advanced(self, frames: Tensor, used: Tensor, state: _Path) -> _Path:
        batch, time = ops.shape(used)

        def step(previous: Tensor, states: Any) -> tuple[Tensor, Any, None]:
            """Score the moves; `previous` is the label just written, or the blank."""
            network, t = states
            network = _where(previous != 0, self.head.step(previous, network), network)
            frame = taken(frames, ops.expand_dims(ops.minimum(t, time - 1), 1))[:, 0]
            return self.head.log_p(frame, network), (network, t), None

        policy = _BestPath(self.max_symbols, used, state)
        zeros = ops.zeros((batch,), dtype="int32")
        states = (state.network, zeros)
        memory = loop.decode(step, policy, zeros, states, time * (self.max_symbols + 1))
        labels, times = ops.transpose(memory.labels), ops.transpose(memory.times)
        (labels, times), _ = left_aligned(labels != 0, [labels, times], [0, -1])
        width = time * self.max_symbols
        times = ops.where(times >= 0, times + state.frames, -1)
        history = (*state.history, (labels[:, :width], times[:, :width]))
        return _Path(memory.network, memory.scores, state.frames + time, history)

    def found(self, state: _Path) -> Labels:
        history = self._history(state)
        labels, times = (ops.concatenate(x, axis=1) for x in zip(*history, strict=True))
        (labels, times), lengths = left_aligned(labels != 0, [labels, times], [0, -1])
        return Labels(labels, lengths, state.scores, times)


def _where(condition: Tensor, new: Any, old: Any) -> Any:
    """The rows of a structure of tensors where a condition holds are replaced."""

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        of_rows = ops.reshape(condition, (-1, *(1 for _ in new.shape[1:])))
        return ops.where(of_rows, new, old)

    return tree.map_structure(chosen, new, old)


class _Walk(NamedTuple):
    # Of each step, (steps, batch).
    labels: Tensor  # the label written, or the blank
    times: Tensor
    # Of each row.
    t: Tensor
    count: Tensor  # the number of labels at this frame
    scores: Tensor
    network: Any


class _BestPath:
    """The policy of `TransducerGreedy`: see `loop.Policy`. Each row is at a frame of its own."""

    selects = False

    def __init__(self, max_symbols: int, used: Tensor, state: _Path) -> None:
        self.max_symbols, self.used, self.state = max_symbols, used, state
        self.batch, self.time = ops.shape(used)

    def initialize(self, selecting: bool = False) -> _Walk:
        shape = (self.time * (self.max_symbols + 1), self.batch)
        zeros = ops.zeros((self.batch,), dtype="int32")
        return _Walk(
            labels=ops.zeros(shape, dtype="int32"),
            times=ops.full(shape, -1, dtype="int32"),
            t=zeros,
            count=zeros,
            scores=self.state.scores,
            network=self.state.network,
        )

    def unfinished(self, memory: _Walk) -> Tensor:
        return memory.t < self.time

    def choose(
        self, n: Tensor, log_p: Tensor, attention: None, states: Any, memory: _Walk
    ) -> tuple[Tensor, Any, _Walk]:
        active, t = memory.t < self.time, memory.t
        here = ops.expand_dims(ops.minimum(t, self.time - 1), 1)
        used = active & ops.take_along_axis(self.used, here, axis=1)[:, 0]
        # Not `ops.argmax`: see `samplers.Greedy`.
        best, label = (x[:, 0] for x in ops.top_k(log_p, 1))
        may_write = used & (memory.count < self.max_symbols)
        label = ops.where(may_write, ops.cast(label, "int32"), 0)
        score = ops.where(may_write, best, log_p[:, 0])
        writes = label != 0
        network, _ = states
        t = ops.where(active & ~writes, t + 1, t)
        memory = _Walk(
            labels=written(memory.labels, n, label),
            times=written(memory.times, n, ops.where(writes, t, -1)),
            t=t,
            count=ops.where(writes, memory.count + 1, 0),
            scores=memory.scores + ops.where(used, score, 0),
            network=network,
        )
        return label, (network, t), memory

    def finalize(self, memory: _Walk) -> _Walk:
        return memory


class _Hypotheses(NamedTuple):
    """Several hypotheses for each row, `(batch, count)`."""

    scores: Tensor
    """The log-probability of all paths that write the labels and are in the beam, plus what the
    language model and the insertions add, which is the same for all of them."""

    of_path: Tensor
    """The same, of the most probable one."""

    hashes: tuple[Tensor, Tensor]
    """Two hashes of the labels: equal for equal labels."""

    network: Any
    """The state of the prediction network, with rows `batch * count`."""

    language: Any
    """The scores that the language model gives to what follows, and its state, with the same rows;
    () without one."""


class _Chunks(NamedTuple):
    """The state of `TransducerBeam`."""

    beam: _Hypotheses
    history: tuple[tuple[Tensor, Tensor], ...]
    """Of each chunk the parents, `(time, batch, width)`, and the labels, `(time, batch, width,
    max_symbols)`."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class TransducerBeam(TransducerDecoder):
    """A beam search for the most probable labels of a transducer, with a language model.

        score(l, t) = log sum_π P(π) + α log P_LM(l) + β |l|

    with the sum over the paths π that write l in t frames. The search goes frame by frame.

    At each frame, the `width` best label sequences are extended by up to `max_symbols` labels,
    which the language model scores, the best `width` of the extensions by each label; the blank
    leads each of them to the next frame. Paths to the same labels are added up there, and the best
    are kept. At the end, the language model scores the end of the labels. The sum is that of
    `kerasrnn.losses.Transducer`, except for the paths that the beam has dropped, or that write more
    labels at a frame (Graves 2012, "Sequence transduction with recurrent neural networks", searches
    without a limit at a frame; Saon, Tüske & Audhkhasi 2020, "Alignment-length synchronous decoding
    for RNN transducer", call a search with one time-synchronous).

    The search is one graph on every backend: call it in a model's `predict`, where it is compiled.
    Each frame takes `max_symbols` steps of the prediction network.

    Args:
        head: the trained `kerasrnn.Transducer`, whose weights this layer shares.
        width: the number of label sequences.
        max_symbols: the maximum number of labels at a frame.
        language_model: a `kerasrnn.decoding.NGramLanguageModel`, `RecurrentLanguageModel` or other
            `LanguageModel`; None: no language model.
        language_weight: α, 0 or more.
        insertion_bonus: β, of each label: a language model favours short sequences.
        n_best: the number of results for each row, the best first; None: only the best, without an
            axis for several.
        return_lengths: whether to also return the number of labels.
        return_scores: whether to also return the scores.
        return_times: whether to also return the frame at which each label is written, on the most
            probable path that writes these labels and is in the beam.

    Call arguments:
        encoded: the outputs of the encoder, `(batch, time, features)`.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to the
            outputs, if any.

    Returns:
        ids `(batch, time * max_symbols)`, int32, left-aligned and padded with 0. Then, if
        requested, the lengths, int32 `(batch,)`; the scores, float32 `(batch,)`; the frames, int32
        `(batch, time * max_symbols)`, -1 for padding. With `n_best`, all of them have a second
        axis; if fewer sequences are found, the others have the length 0 and the score -1e30.

    Masking: masked frames are skipped, at any position; no mask is passed on.

    Raises:
        ValueError: an argument is out of its range, or the outputs have another shape.

    Example: in a functional model, which is saved with its search. For frames that arrive one after
    the other, see `TransducerGreedy`.

        >>> import keras, kerasrnn
        >>> encoded = keras.Input((None, 3))
        >>> transducer = kerasrnn.Transducer(5, [kerasrnn.GRU(4)])
        >>> beam = kerasrnn.decoding.TransducerBeam(transducer, width=4, n_best=2)
        >>> reader = keras.Model(encoded, beam(encoded))
        >>> tuple(reader(keras.ops.ones((1, 6, 3))).shape)         # 6 frames of up to 3 labels
        (1, 2, 18)
    """

    @validation.checked
    def __init__(
        self,
        head: keras.layers.Layer,
        width: PositiveInteger = 10,
        max_symbols: PositiveInteger = 3,
        language_model: LanguageModel | None = None,
        language_weight: NonNegativeNumber = 1.0,
        insertion_bonus: float = 0.0,
        n_best: int | None = None,
        return_lengths: bool = False,
        return_scores: bool = False,
        return_times: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(head, max_symbols, return_lengths, return_scores, return_times, **kwargs)
        if n_best is not None:
            n_best = validation.integer("n_best", n_best, minimum=1, maximum=width)
        if language_model is not None and not isinstance(language_model, LanguageModel):
            raise ArgumentError(
                "language_model", language_model, "a kerasrnn.decoding.LanguageModel", "None"
            )
        self.width, self.n_best = width, n_best
        self.language_model = language_model
        self.language_weight, self.insertion_bonus = language_weight, insertion_bonus

    def build(self, encoded_shape: Any, *_: Any) -> None:
        super().build(encoded_shape)
        if self.language_model is not None and not self.language_model.built:
            self.language_model.build()

    def initial_state(self, rows: Any) -> _Chunks:
        shape = (rows, self.width)
        zeros = ops.zeros(shape, dtype="int32")
        # At first there are no labels, and nothing else.
        never = ops.full(shape, NEVER, dtype="float32")
        scores = ops.where(ops.arange(self.width) == 0, ops.zeros_like(never), never)
        network = self.head.initial_state(rows * self.width)
        language: Any = ()
        if self.language_model is not None:
            language = self.language_model.initial(rows * self.width, self.head.classes, 0)
        return _Chunks(_Hypotheses(scores, scores, (zeros, zeros), network, language), ())

    def _advanced(self, frames: Tensor, used: Tensor, state: _Chunks) -> _Chunks:
        def step(beam: _Hypotheses, x: tuple[Tensor, Tensor]) -> Any:
            return self._next(beam, *x)

        xs = (ops.transpose(frames, (1, 0, 2)), ops.transpose(used))
        beam, of_frames = dynamic.scan(step, state.beam, xs)
        return _Chunks(beam, (*state.history, of_frames))

    def _next(
        self, beam: _Hypotheses, frame: Tensor, used: Tensor
    ) -> tuple[_Hypotheses, tuple[Tensor, Tensor]]:
        """The beam after a frame, from where its hypotheses come, and their labels there."""
        width, classes = self.width, self.head.classes
        batch = ops.shape(used)[0]
        frames = ops.repeat(frame, width, axis=0)
        own = ops.broadcast_to(ops.arange(width, dtype="int32"), (batch, width))
        parents, labels = own, ops.zeros((batch, width, self.max_symbols), dtype="int32")
        place = ops.arange(self.max_symbols, dtype="int32")
        current, ended = beam, []
        for n in range(self.max_symbols + 1):
            log_p = ops.reshape(self.head.log_p(frames, current.network), (-1, width, classes))
            log_p = ops.maximum(log_p, NEVER)
            ended.append((self._added(current, log_p[..., 0]), parents, labels))
            if n == self.max_symbols:
                break
            scores = log_p + self.insertion_bonus
            if self.language_model is not None:
                scores = scores + ops.reshape(self._weighted(current), (-1, width, classes))
            scores = ops.where(ops.arange(classes) == 0, NEVER, scores)
            best, indices = most_probable(current.scores, scores)
            origin, label = indices // classes, indices % classes
            moved = _of_places(current, origin, batch, width)
            moved = moved._replace(
                scores=best,
                of_path=moved.of_path + best - moved.scores,
                hashes=tuple(
                    h * m + label + 1 for h, m in zip(moved.hashes, MULTIPLIERS, strict=True)
                ),
                network=self.head.step(ops.reshape(label, (-1,)), moved.network),
                language=self._read(label, moved.language),
            )
            parents = taken(parents, origin)
            labels = ops.where(place == n, ops.expand_dims(label, 2), taken(labels, origin))
            current = moved

        def joined(*x: Tensor) -> Tensor:
            return ops.concatenate(x, axis=1)

        def joined_rows(*x: Tensor) -> Tensor:
            of_rows = [ops.reshape(each, (-1, width, *each.shape[1:])) for each in x]
            y = ops.concatenate(of_rows, axis=1)
            return ops.reshape(y, (-1, *y.shape[2:]))

        every = [each for each, *_ in ended]
        arrays = [each._replace(network=(), language=()) for each in every]
        network, language = (
            tree.map_structure(joined_rows, *(getattr(each, name) for each in every))
            for name in ("network", "language")
        )
        found = tree.map_structure(joined, *arrays)._replace(network=network, language=language)
        parents, labels = (joined(*x) for x in list(zip(*ended, strict=True))[1:])
        scores, places = ops.top_k(_merged(found), width)
        # The first hypotheses are those of before, as they were.
        places = ops.where(ops.expand_dims(used, 1), ops.cast(places, "int32"), own)
        count = width * (self.max_symbols + 1)
        after = _of_places(found, places, batch, count)
        kept = ops.expand_dims(used, 1)
        after = after._replace(
            scores=ops.where(kept, scores, beam.scores),
            of_path=ops.where(kept, after.of_path, beam.of_path),
        )
        return after, (taken(parents, places), taken(labels, places))

    def _weighted(self, hypotheses: _Hypotheses) -> Tensor:
        """α times the scores of what follows, `(batch * width, classes)`; of the end at class 0."""
        scores, _ = hypotheses.language
        return self.language_weight * ops.maximum(ops.cast(scores, "float32"), NEVER)

    def _read(self, label: Tensor, language: Any) -> Any:
        """What the language model has after these labels, `(batch, width)`."""
        if self.language_model is None:
            return ()
        # The blank is only chosen for want of labels, in hypotheses that do not exist.
        labels = ops.maximum(ops.reshape(label, (-1,)), 1)
        _, state = language
        return self.language_model.step(labels, state, self.head.classes, 0)

    def _added(self, hypotheses: _Hypotheses, log_p: Tensor) -> _Hypotheses:
        return hypotheses._replace(
            scores=hypotheses.scores + log_p, of_path=hypotheses.of_path + log_p
        )

    def found(self, state: _Chunks) -> Labels:
        count = self.n_best or 1
        # The hypotheses are sorted by their scores, without that of the end.
        scores = state.beam.scores
        if self.language_model is not None:
            of_end = ops.reshape(self._weighted(state.beam)[:, 0], (-1, self.width))
            scores = ops.where(log_semiring.possible(scores), scores + of_end, NEVER)
        scores, last = ops.top_k(scores, count)
        last = ops.cast(last, "int32")
        parents, labels = (
            ops.concatenate(x, axis=0) for x in zip(*self._history(state), strict=True)
        )
        time = ops.shape(parents)[0]

        def back(places: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            parents, labels = x
            return taken(parents, places), taken(labels, places)

        _, labels = dynamic.scan(back, last, (parents, labels), reverse=True)
        width = time * self.max_symbols
        labels = ops.reshape(ops.transpose(labels, (1, 2, 0, 3)), (-1, width))
        found = log_semiring.possible(scores)
        times = ops.arange(width, dtype="int32") // self.max_symbols
        times = ops.broadcast_to(times, ops.shape(labels))
        is_label = (labels != 0) & ops.reshape(found, (-1, 1))
        (labels, times), lengths = left_aligned(is_label, [labels, times], [0, -1])
        results = Labels(
            ops.reshape(labels, (-1, count, width)),
            ops.reshape(lengths, (-1, count)),
            ops.where(found, scores, NEVER),
            ops.reshape(times, (-1, count, width)),
        )
        return results if self.n_best is not None else Labels(*(x[:, 0] for x in results))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "language_model": keras.saving.serialize_keras_object(self.language_model),
            "language_weight": self.language_weight,
            "insertion_bonus": self.insertion_bonus,
            "n_best": self.n_best,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TransducerBeam":
        model = keras.saving.deserialize_keras_object(config["language_model"], custom_objects)
        return super().from_config({**config, "language_model": model}, custom_objects)


def _of_places(hypotheses: _Hypotheses, places: Tensor, batch: Any, count: int) -> _Hypotheses:
    """The hypotheses at these places of each row, `(batch, width)`, of `count`."""
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * count, 1)
    rows = ops.reshape(first + places, (-1,))
    network, language = selected(rows, (hypotheses.network, hypotheses.language))
    arrays = hypotheses._replace(network=(), language=())
    arrays = tree.map_structure(lambda x: taken(x, places), arrays)
    return arrays._replace(network=network, language=language)


def _merged(found: _Hypotheses) -> Tensor:
    """The scores, `(batch, count)`, where hypotheses of equal labels are added up in the one with
    the most probable path; `NEVER` for the others."""
    exists = log_semiring.possible(found.scores)
    same = ops.expand_dims(exists, 2) & ops.expand_dims(exists, 1)
    for h in found.hashes:
        same = same & (ops.expand_dims(h, 2) == ops.expand_dims(h, 1))
    total = log_semiring.total(ops.where(same, ops.expand_dims(found.scores, 1), NEVER), axis=2)
    place = ops.arange(found.scores.shape[1], dtype="int32")
    own, other = ops.expand_dims(found.of_path, 2), ops.expand_dims(found.of_path, 1)
    earlier = place < ops.expand_dims(place, 1)  # the other is before
    dominated = same & ((other > own) | ((other == own) & earlier))
    return ops.where(exists & ~ops.any(dominated, axis=2), total, NEVER)
