"""Beam search: the most probable sequences, with several hypotheses per row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.decoding.loop import Sequences, selected, taken, written
from kerasrnn.decoding.processors import IMPOSSIBLE, LogitsProcessor, Processing, possible
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.validation import NonNegativeNumber, PositiveInteger

Tensor = Any

COVERAGE_FLOOR = 1e-9
"""The minimum coverage of a position, since log 0 would be infinite."""

BLOCK = 32
"""The number of classes whose maximum is compared first, if there are many."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class Beam(Strategy):
    """A search for the sequence with the highest score.

        s(Y, X) = log P(Y | X) / lp(Y) + cp(X; Y)
        lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha
        cp(X; Y) = beta sum_i log(min(sum_j p_ij, 1))

    (Wu et al. 2016, "Google's neural machine translation system: bridging the gap between human and
    machine translation", equation 14). `|Y|` is the number of symbols, including the one that ends
    Y; p_ij is the weight of the source's position i at symbol j. Padded positions are excluded; a
    sum below 1e-9, of a position with hardly any weight, counts as 1e-9. With a prompt, Y follows
    the prompt, and P is conditional on it. With logits processors, log P is the sum of the scores
    that they return: for processors that only forbid symbols, these are the model's own
    log-probabilities, not renormalized over the remaining symbols.

    At every step, each open hypothesis of a row is extended by each class, and the `width` most
    probable results are selected. Those that end are stored with their score; the others are open
    at the next step. Hypotheses that are open at a row's maximum length end there. A beam of width
    1 is therefore greedy, and a beam as wide as the number of hypotheses finds the best of all.
    Open hypotheses are compared by log P only, since they have the same length.

    A row stops when no open hypothesis can become better than the worst of the `n_best` stored
    hypotheses. Given its current log P, which can only decrease, and the maximum length M of the
    row, the score of an open hypothesis is at most log P / lp(M), since lp increases with the
    length and cp <= 0. This bound is exact: stopping does not change the result. It is loose if
    `length_penalty` is large and M is far away; `max_lengths` for each row make M smaller. With a
    processor that `may_reward`, whose scores may be above 0, there is no bound, and every row is
    searched up to its maximum length.

    With `groups`, the beam is diverse (Vijayakumar et al. 2018, "Diverse beam search for improved
    description of complex scenes"): its hypotheses are divided into groups of equal size, which
    extend their own hypotheses in turn. A group compares

        log P - diversity * n_k

    for a continuation by class k that n_k hypotheses of the groups before it have just chosen. The
    penalty only affects this choice: it is not part of s. Each group stores its own results, so
    that `n_best` returns as many of each group.

    Args:
        width: the maximum number of hypotheses selected at each step.
        length_penalty: alpha, 0 or more: 0 compares log-probabilities, which favours short
            sequences; 1 approximately compares the mean log-probability of a symbol.
        coverage_penalty: beta, 0 or more; above 0 the decoder must have attention.
        n_best: the number of sequences returned for each row, the best first; None: only the best,
            without an axis for the sequences.
        groups: the number of groups, which divides `width` and `n_best`; 1: no groups.
        diversity: the penalty for the classes of other groups, 0 or more; only with groups.
            Default: 0.5.

    Raises:
        ValueError: an argument is out of its range.

    Example: the most probable first symbol, 4, has no probable continuation.

        >>> import numpy as np, keras, kerasrnn
        >>> from kerasrnn.decoding import BeamSearch, decode
        >>> p = np.full((5, 5), 0.2)  # p[i, j]: probability of j after i
        >>> p[1] = [0.0, 0.0, 0.1, 0.4, 0.5]
        >>> p[3] = [0.0, 0.0, 0.9, 0.05, 0.05]
        >>> def step(previous, states):
        ...     return keras.ops.take(np.log(p + 1e-9), previous, axis=0), states, None
        >>> for width in (1, 2):
        ...     beam = kerasrnn.decoding.Beam(width)
        ...     search = BeamSearch(beam, 5, np.array([2]), max_length=2, end=2)
        ...     found = decode(step, search, np.array([1] * width), (), max_length=2)
        ...     print(np.asarray(found.symbols), np.exp(found.scores).round(2))
        [[4 1]] [0.1]
        [[3 2]] [0.36]
    """

    kind = "classes"

    @validation.checked
    def __init__(
        self,
        width: PositiveInteger = 5,
        length_penalty: NonNegativeNumber = 0.0,
        coverage_penalty: NonNegativeNumber = 0.0,
        n_best: int | None = None,
        groups: PositiveInteger = 1,
        diversity: NonNegativeNumber | None = None,
    ) -> None:
        if n_best is not None:
            n_best = validation.integer("n_best", n_best, minimum=1, maximum=width)
        for name, number in (("width", width), ("n_best", n_best)):
            if number is not None and number % groups:
                raise ValueError(
                    f"{name}={number}: expected a multiple of groups={groups}, which are of equal "
                    "size."
                )
        if groups == 1 and diversity is not None:
            raise ValueError(f"diversity={diversity!r}: expected None with groups=1.")
        self.width, self.n_best = width, n_best
        self.groups = groups
        self.diversity = 0.5 if diversity is None and groups > 1 else diversity
        self.length_penalty = length_penalty
        self.coverage_penalty = coverage_penalty

    def get_config(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "length_penalty": self.length_penalty,
            "coverage_penalty": self.coverage_penalty,
            "n_best": self.n_best,
            "groups": self.groups,
            "diversity": self.diversity,
        }


class _Memory(NamedTuple):
    # The selected symbols of every step: time first, so that a step writes one row.
    symbols: Tensor  # (max_length, batch, width)
    parents: Tensor  # (max_length, batch, width): index of the extended hypothesis
    log_probabilities: Tensor  # (max_length, batch, width): of the symbol only
    attention: Any  # (max_length, batch, width, positions), at the parents' indices; or ()
    found: Any  # the last three of all rows, if only some are left; or ()
    # Of the rows that are left: the open hypotheses.
    rows: Any  # (batch,): their indices in `symbols`; () if all are
    max_lengths: Tensor  # (batch,)
    source_mask: Any  # (batch, positions); or ()
    totals: Tensor  # (batch, width): log P; IMPOSSIBLE where none is open
    coverage: Any  # (batch, width, positions): sum_j p_ij; or ()
    history: Any  # (batch * width, max_length): their symbols, if a processor reads them; or ()
    processing: Any  # the states of the processors, (batch * width, ...)
    # The stored hypotheses, the best first; with groups, those of each group after each other.
    scores: Tensor  # (batch, n): IMPOSSIBLE where there is none
    lengths: Tensor  # (batch, n)
    places: Tensor  # (batch, n): of its last symbol among those selected at its last step


OF_ALL = _Memory._fields.index("rows")
"""The number of the memory's fields that have an entry for every row of the batch."""


class BeamSearch:
    """The policy of `Beam`: several hypotheses per row, with `width` rows of the decoder for each.

    Selected symbols are stored with the index of the hypothesis that they extend, and the sequences
    are traced back once at the end. So no history is moved when hypotheses are reordered, unless a
    processor reads it.

    Args:
        beam: see `Beam`.
        size: number of classes, which a graph may not know: an int32 scalar.
        max_lengths: maximum length of each row, `(batch,)`.
        max_length: maximum length of all rows.
        end: the id that ends a row, or None.
        processors: change the logits before the selection; see `LogitsProcessor`.
        positions: number of the source's positions, if the steps return attention.
        source_mask: boolean `(batch, positions)`: the positions that are not padding. Default: all.
        return_attention: whether the attention is recorded.
        prompt: ids `(batch * width, time)`, right-padded, which processors read as the beginning
            of the generated sequence.
        prompt_lengths: `(batch * width,)`.
    """

    @validation.checked
    def __init__(
        self,
        beam: Beam,
        size: Any,
        max_lengths: Tensor,
        max_length: int,
        end: int | None = None,
        processors: Sequence[LogitsProcessor] = (),
        positions: Any = None,
        source_mask: Tensor | None = None,
        return_attention: bool = False,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
    ) -> None:
        self.beam, self.size, self.end = beam, size, end
        self.processing = Processing(processors, size, end, prompt, prompt_lengths)
        if beam.groups > 1 and self.processing.constraint is not None:
            processor = self.processing.processors[self.processing.constraint]
            raise ValueError(
                f"processors: {processor!r} divides the beam itself; expected groups=1, received "
                f"{beam.groups}."
            )
        self.selects = self.processing.selects
        self.max_lengths = ops.maximum(ops.cast(max_lengths, "int32"), 0)
        self.max_length = max_length
        self.positions, self.source_mask = positions, source_mask
        self.return_attention = return_attention

    def initialize(self, selecting: bool = False) -> _Memory:
        batch, width = ops.shape(self.max_lengths)[0], self.beam.width
        groups = self.beam.groups
        steps, stored = (self.max_length, batch, width), (batch, self.beam.n_best or groups)
        # Initially all hypotheses of a row are equal, so only one of each group is open.
        first = ops.arange(width) % (width // groups) == 0
        is_open = ops.logical_and(first, ops.expand_dims(self.max_lengths > 0, 1))
        attention = coverage = ()
        if self.return_attention:
            attention = ops.zeros((*steps, self.positions), dtype="float32")
        if self.beam.coverage_penalty:
            coverage = ops.zeros((batch, width, self.positions), dtype="float32")
        history = ops.zeros((batch * width, self.max_length), dtype="int32")
        scores = ops.full(stored, IMPOSSIBLE, dtype="float32")
        lengths = places = ops.zeros(stored, dtype="int32")
        return _Memory(
            symbols=ops.zeros(steps, dtype="int32"),
            parents=ops.zeros(steps, dtype="int32"),
            log_probabilities=ops.zeros(steps, dtype="float32"),
            attention=attention,
            found=(scores, lengths, places) if selecting else (),
            rows=ops.arange(batch, dtype="int32") if selecting else (),
            max_lengths=self.max_lengths,
            source_mask=() if self.source_mask is None else self.source_mask,
            totals=ops.where(is_open, ops.zeros((batch, width), dtype="float32"), IMPOSSIBLE),
            coverage=coverage,
            history=history if self.processing.reads_history else (),
            processing=self.processing.initialize(batch * width, lambda: history),
            scores=scores,
            lengths=lengths,
            places=places,
        )

    def unfinished(self, memory: _Memory) -> Tensor:
        """The rows with an open hypothesis that can still become better than the worst stored
        one."""
        best_end = memory.totals / self._length_penalty(ops.expand_dims(memory.max_lengths, 1))
        best_end, scores = (self._by_group(x) for x in (best_end, memory.scores))
        better = ops.reshape(best_end > scores[:, -1:], (-1, self.beam.width))
        if self.processing.may_reward:
            better = True
        return ops.any(ops.logical_and(possible(memory.totals), better), axis=1)

    def choose(
        self, t: Tensor, logits: Tensor, attention: Tensor | None, states: Any, memory: _Memory
    ) -> tuple[Tensor, Any, _Memory]:
        width, size = self.beam.width, self.size
        log_p, scored, processing = self.processing(
            t, logits, lambda: memory.history, memory.processing
        )  # (batch * width, size)
        scored = ops.reshape(scored, (-1, width, size))
        complete = None
        if self.beam.groups > 1:
            totals, indices = self._diverse(memory.totals, scored)
        elif self.processing.constraint is not None:
            progress, goal, most = self.processing.progress(
                t, ops.shape(log_p)[0], lambda: memory.history, processing
            )
            progress = ops.reshape(progress, (-1, width * size))
            goal = ops.reshape(goal, (-1, width))[:, :1]
            totals, indices = allocated(memory.totals, scored, progress, goal, most)
            complete = taken(progress, indices) >= goal
        else:
            totals, indices = most_probable(memory.totals, scored)
        parents, symbols = indices // size, indices % size  # (batch, width)
        log_probabilities = taken(ops.reshape(log_p, (-1, width * size)), indices)

        recorded, coverage = memory.attention, memory.coverage
        if attention is not None:
            shape = (-1, width, self.positions)
            attention = ops.reshape(ops.cast(attention, "float32"), shape)
        if self.return_attention:
            recorded = written(recorded, t, attention, memory.rows)
        if self.beam.coverage_penalty:
            coverage = taken(coverage + attention, parents)

        # Without an end symbol, a hypothesis without a possible continuation ends before it: the
        # symbol is 0, and is not counted.
        stopped = symbols == 0
        log_probabilities = ops.where(stopped, 0, log_probabilities)
        length = t + 1 - ops.cast(stopped, "int32")
        ends = ops.logical_or(ops.expand_dims(t + 1 >= memory.max_lengths, 1), stopped)
        if self.end is not None:
            ends = ops.logical_or(ends, symbols == self.end)
        exists = possible(totals)
        if complete is not None:
            exists = ops.logical_and(exists, ops.logical_or(complete, ops.logical_not(ends)))
        ended = ops.logical_and(exists, ends)
        scores = ops.where(
            ended, self._scores(totals, length, coverage, memory.source_mask), IMPOSSIBLE
        )
        lengths = ops.where(ended, length, 0)
        places = ops.where(stopped, parents, ops.arange(width, dtype="int32"))
        scores, lengths, places = self._stored(memory, scores, lengths, places)

        rows = ops.expand_dims(ops.arange(ops.shape(parents)[0]) * width, 1) + parents
        rows, next_symbols = ops.reshape(rows, (-1,)), ops.reshape(symbols, (-1,))
        states, processing, history = tree.map_structure(
            lambda state: ops.take(state, rows, axis=0), (states, processing, memory.history)
        )
        if self.processing.reads_history:
            current = ops.expand_dims(ops.arange(self.max_length) == t, 0)
            history = ops.where(current, ops.expand_dims(next_symbols, 1), history)
        return (
            next_symbols,
            states,
            memory._replace(
                symbols=written(memory.symbols, t, symbols, memory.rows),
                parents=written(memory.parents, t, parents, memory.rows),
                log_probabilities=written(
                    memory.log_probabilities, t, log_probabilities, memory.rows
                ),
                attention=recorded,
                totals=ops.where(
                    ops.logical_or(ended, ops.logical_not(exists)), IMPOSSIBLE, totals
                ),
                coverage=coverage,
                history=history,
                processing=processing,
                scores=scores,
                lengths=lengths,
                places=places,
            ),
        )

    def _by_group(self, x: Tensor) -> Tensor:
        """Rows of hypotheses, `(batch, n)`, as rows of groups, `(batch * groups, n / groups)`."""
        return ops.reshape(x, (-1, x.shape[1] // self.beam.groups))

    def _stored(
        self, memory: _Memory, scores: Tensor, lengths: Tensor, places: Tensor
    ) -> tuple[Tensor, ...]:
        """The best of the stored hypotheses and those of this step, of each group."""
        stored = memory.scores.shape[1]
        # Stored hypotheses come first, and remain in case of ties.
        scores, lengths, places = (
            ops.concatenate([self._by_group(before), self._by_group(x)], axis=1)
            for before, x in zip(memory[-3:], (scores, lengths, places), strict=True)
        )
        scores, best = ops.top_k(scores, stored // self.beam.groups)
        results = (scores, taken(lengths, best), taken(places, best))
        return tuple(ops.reshape(x, (-1, stored)) for x in results)

    def _diverse(self, totals: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """As `most_probable`, group by group."""
        _, width, size = ops.shape(scores)
        each = width // self.beam.groups
        chosen = ops.zeros_like(scores[:, 0])  # how often each class was chosen, (batch, size)
        flat = ops.reshape(scores, (-1, width * size))
        sums, indices = [], []
        for first in range(0, width, each):
            penalized = scores[:, first : first + each]
            penalized = penalized - self.beam.diversity * ops.expand_dims(chosen, 1)
            _, found = most_probable(totals[:, first : first + each], penalized)
            found = found + first * size
            indices.append(found)
            sums.append(taken(totals, found // size) + taken(flat, found))
            classes = ops.one_hot(found % size, size, dtype=chosen.dtype)
            exists = ops.cast(possible(sums[-1]), chosen.dtype)
            chosen = chosen + ops.sum(classes * ops.expand_dims(exists, -1), axis=1)
        return ops.concatenate(sums, axis=1), ops.concatenate(indices, axis=1)

    def select(self, kept: Tensor, carry: Any, memory: _Memory) -> tuple[Any, _Memory]:
        width, memory = self.beam.width, self._with_found(memory)
        hypotheses = ops.expand_dims(kept * width, 1) + ops.arange(width, dtype=kept.dtype)
        # The previous symbols, the states and the constants have a row for each hypothesis.
        of_hypotheses = (carry, memory.history, memory.processing)
        carry, history, processing = selected(ops.reshape(hypotheses, (-1,)), of_hypotheses)
        of_rows = memory._replace(history=(), processing=())[OF_ALL:]
        left = _Memory(*memory[:OF_ALL], *selected(kept, of_rows))
        return carry, left._replace(history=history, processing=processing)

    def _with_found(self, memory: _Memory) -> _Memory:
        """Store what was found for the rows that are left."""
        if isinstance(memory.rows, tuple):
            return memory._replace(found=memory[-3:])
        index = ops.expand_dims(memory.rows, 1)
        found = (
            ops.scatter_update(array, index, values)
            for array, values in zip(memory.found, memory[-3:], strict=True)
        )
        return memory._replace(found=tuple(found))

    def finalize(self, memory: _Memory) -> Sequences:
        """Trace each stored hypothesis back from its last symbol to its first."""
        scores, lengths, last = self._with_found(memory).found  # (batch, n)
        if self.beam.groups > 1:
            scores, best = ops.top_k(scores, scores.shape[1])
            lengths, last = taken(lengths, best), taken(last, best)

        def back(t: Tensor, places: Tensor, ways: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            places = ops.where(t == lengths - 1, last, places)
            before = taken(ops.take(memory.parents, t, axis=0), places)
            return t - 1, before, written(ways, t, places)

        ways = ops.zeros((self.max_length, *ops.shape(lengths)), dtype="int32")
        start = (ops.max(lengths) - 1, ops.zeros_like(lengths), ways)
        _, _, ways = ops.while_loop(lambda t, *_: t >= 0, back, start)
        steps = ops.reshape(ops.arange(self.max_length), (-1, 1, 1))
        used = steps < ops.expand_dims(lengths, 0)  # (max_length, batch, n), as ways

        def along(array: Tensor) -> Tensor:
            """Transpose to (batch, n, max_length)."""
            found = ops.take_along_axis(array, ways, axis=2)
            return ops.transpose(ops.where(used, found, 0), (1, 2, 0))

        attention = None
        if self.return_attention:
            parents = ops.take_along_axis(memory.parents, ways, axis=2)
            attention = ops.take_along_axis(memory.attention, ops.expand_dims(parents, -1), axis=2)
            attention = ops.where(ops.expand_dims(used, -1), attention, 0)
            attention = ops.transpose(attention, (1, 2, 0, 3))
        sequences = Sequences(
            along(memory.symbols),
            lengths,
            along(memory.log_probabilities),
            scores,
            attention,
        )
        if self.beam.n_best is not None:
            return sequences
        return Sequences(*(None if array is None else array[:, 0] for array in sequences))

    def _scores(self, totals: Tensor, length: Tensor, coverage: Any, source_mask: Any) -> Tensor:
        """Compute s(Y, X) of hypotheses of this length, `(batch, width)`."""
        scores = totals / self._length_penalty(length)
        if not self.beam.coverage_penalty:
            return scores
        log_covered = ops.log(ops.clip(coverage, COVERAGE_FLOOR, 1.0))
        if not isinstance(source_mask, tuple):
            log_covered = ops.where(ops.expand_dims(source_mask, 1), log_covered, 0)
        return scores + self.beam.coverage_penalty * ops.sum(log_covered, axis=-1)

    def _length_penalty(self, length: Tensor) -> Tensor:
        return ((5 + ops.cast(length, "float32")) / (5 + 1)) ** self.beam.length_penalty


def allocated(
    totals: Tensor, scores: Tensor, progress: Tensor, goal: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """As `most_probable`, with shares of the beam for hypotheses of equal progress.

    Args:
        totals: `(batch, width)`.
        scores: `(batch, width, size)`.
        progress: of each continuation, int32 `(batch, width * size)`.
        goal: the progress of complete ones, int32 `(batch, 1)`.
        most: the largest possible goal.
    """
    _, width, size = ops.shape(scores)
    sums = ops.reshape(ops.expand_dims(totals, -1) + scores, (-1, width * size))
    share = width // (goal + 1)
    remainder = width - share * (goal + 1)
    found, indices, reserved = [], [], []
    for n in range(most + 1):
        best, index = ops.top_k(ops.where(progress == n, sums, 2 * IMPOSSIBLE), width)
        # Numbers near the goal get the remainder.
        quota = ops.where(n <= goal, share + ops.cast(n > goal - remainder, "int32"), 0)
        found.append(best)
        indices.append(ops.cast(index, "int32"))
        reserved.append(possible(best) & (ops.arange(width, dtype="int32") < quota))
    found, indices, reserved = (ops.concatenate(x, axis=1) for x in (found, indices, reserved))
    rank = ops.argsort(ops.argsort(-found, axis=1), axis=1)
    rank = ops.where(reserved, rank, rank + found.shape[1])
    chosen = ops.argsort(rank, axis=1)[:, :width]
    return taken(found, chosen), taken(indices, chosen)


def most_probable(totals: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The `width` highest sums of a hypothesis's total, `(batch, width)`, and the score of a class,
    `(batch, width, size)`; and their indices among all `width * size`, int32.

    With many classes, the search is limited to the blocks of classes with the highest maxima, which
    contain all results: to find the maxima is much faster than to sort.
    """
    _, width, size = ops.shape(scores)
    count = -(-size // BLOCK)  # of blocks of each hypothesis
    if not isinstance(size, int) or count < 4 * width:
        sums = ops.expand_dims(totals, -1) + scores
        sums, indices = ops.top_k(ops.reshape(sums, (-1, width * size)), width)
        return sums, ops.cast(indices, "int32")
    padding = ((0, 0), (0, 0), (0, count * BLOCK - size))
    blocks = ops.pad(scores, padding, constant_values=2 * IMPOSSIBLE)
    blocks = ops.reshape(blocks, (-1, width, count, BLOCK))
    maxima = ops.expand_dims(totals, -1) + ops.max(blocks, axis=-1)
    _, chosen = ops.top_k(ops.reshape(maxima, (-1, width * count)), width)
    chosen = ops.sort(ops.cast(chosen, "int32"), axis=-1)  # equal sums remain in their order
    parents, block = chosen // count, chosen % count  # (batch, width)
    blocks = ops.reshape(blocks, (-1, width * count, BLOCK))
    sums = taken(blocks, chosen) + ops.expand_dims(taken(totals, parents), -1)
    sums, places = ops.top_k(ops.reshape(sums, (-1, width * BLOCK)), width)
    places = ops.cast(places, "int32")
    first = taken(parents * size + block * BLOCK, places // BLOCK)
    return sums, first + places % BLOCK
