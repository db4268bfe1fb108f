"""Language models of characters or ids: n-grams with modified Kneser-Ney smoothing.

Existing libraries target words: NLTK is slow, as it uses dictionaries word by word; KenLM must be
compiled.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasrnn import validation

UNKNOWN = 0
"""The symbol for all characters that do not occur in the training text."""

EDGE = -1
"""What precedes and follows each of several sequences of ids, in the place of an id."""

MOST_ENTRIES = 2**26
"""The largest table of `Automaton`: 512 MB."""

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])
"""Fallback discounts if the counts allow no estimate, as in KenLM's `--discount_fallback`."""


def greatest_order(characters: int) -> int:
    """The largest n for which n-grams over an alphabet of this size fit into 64-bit integers.

    Example:

        >>> greatest_order(65), greatest_order(3000)
        (10, 5)
    """
    order = 1
    while (characters + 1) ** (order + 1) < 2**63:
        order += 1
    return order


class NGrams:
    """A language model with interpolated modified Kneser-Ney smoothing, of characters or ids.

    With h = w_1 ... w_{n-1} the context, h' = w_2 ... w_{n-1} and c a count,

        p_n(w | h) = (c(h w) - D(c(h w))) / c(h) + γ(h) p_{n-1}(w | h')
        γ(h) = (D_1 N_1(h) + D_2 N_2(h) + D_3 N_3(h)) / c(h),   c(h) = Σ_w c(h w)
        Y = n_1 / (n_1 + 2 n_2),   D_i = i - (i + 1) Y n_{i+1} / n_i

    where D(0) = 0, D(c) = D_i with i = min(c, 3), and N_i(h) is the number of characters w with
    min(c(h w), 3) = i. For the highest order, c(h w) is the count of the n-gram; for lower orders,
    the number of different characters that precede it. n_i is the number of n-grams of an order
    with c = i; where one of n_1 to n_4 is zero or a D_i not in (0, i], the order has the discounts
    0.5, 1 and 1.5. Where h never occurs in the text, p_n(w | h) = p_{n-1}(w | h').

    The recursion ends in the uniform distribution over the alphabet of the text and one more
    symbol, which represents all characters that do not occur in the text. Such a character has the
    probability of that symbol, and a context is truncated after the last of them. No probability is
    zero.

    Args:
        text: the training text.
        order: the largest n: a character and the `order - 1` characters before it.

    `of_sequences` counts sequences of ids instead of a text, such as the targets of
    `kerasrnn.losses.CTC`, whose decoders read the model as a
    `kerasrnn.decoding.NGramLanguageModel`.

    Raises:
        ValueError: `order` is less than 1 or greater than the length of the text, or too large for
            the alphabet (n-grams are counted as 64-bit integers).

    Example:

        >>> import kerasrnn
        >>> model = kerasrnn.NGrams("abracadabra", order=3)
        >>> model.alphabet
        'abcdr'
        >>> float(model.probabilities("ab").sum().round(9))
        1.0
        >>> model.nats("abracadabra").shape
        (11,)

    Source: Chen & Goodman (1999), "An empirical study of smoothing techniques for language
    modeling", Computer Speech & Language 13, section 3; the discounts are equation (17) there, and
    (26) in the report of 1998, TR-10-98.
    """

    def __init__(self, text: str, order: int) -> None:
        if not 1 <= order <= len(text):
            raise ValueError(
                f"order={order}: expected at least 1, and at most the length of the text, "
                f"{len(text)}."
            )
        points = _points(text)
        self._count(points, lambda symbols: _windows(symbols, order), order)

    @classmethod
    def of_sequences(cls, sequences: Sequence[Sequence[int]], order: int) -> "NGrams":
        """A model of sequences of ids, each with its beginning and its end.

        Each sequence is preceded by edges, which are never predicted, and followed by one, which
        is: the end.

        Args:
            sequences: lists or arrays of ids, which are not negative; without padding.
            order: the largest n.

        Raises:
            ValueError: there are no sequences, an id is not a nonnegative integer, or `order` is
                not positive or too large for the number of ids.

        Example:

            >>> import kerasrnn
            >>> model = kerasrnn.NGrams.of_sequences([[1, 2], [1, 3, 2]], order=2)
            >>> model.symbols.tolist()                  # -1 is the edge
            [-1, 1, 2, 3]
        """
        validation.integer("order", order, minimum=1)
        if isinstance(sequences, (str, bytes)) or not len(sequences):
            raise validation.ArgumentError("sequences", sequences, "a list of sequences of ids")
        rows = [_ids(f"sequences[{n}]", sequence) for n, sequence in enumerate(sequences)]
        model = cls.__new__(cls)
        edge = np.array([EDGE])

        def windows(symbols: np.ndarray) -> np.ndarray:
            edges = symbols[:1].repeat(order - 1)
            parts, at = [], 1
            for row in rows:
                padded = np.concatenate([edges, symbols[at : at + len(row) + 1]])
                parts.append(_windows(padded, order))
                at += len(row) + 1
            return np.concatenate(parts)

        points = np.concatenate([edge, *(part for row in rows for part in (row, edge))])
        model._count(points, windows, order)
        return model

    def _count(
        self, points: np.ndarray, windows: Callable[[np.ndarray], np.ndarray], order: int
    ) -> None:
        """Count the n-grams.

        Args:
            points: the code points of a text, or ids.
            windows: maps their symbols to n-grams of the highest order, one in each row.
            order: the largest n.
        """
        self.order = order
        self._points = np.unique(points)
        self._base = len(self._points) + 1
        if order > (greatest := greatest_order(len(self._points))):
            raise ValueError(
                f"order={order}: expected at most {greatest} for a text with "
                f"{len(self._points)} different characters."
            )
        codes = self._codes(windows(self._symbols(points)))
        grams, counts = np.unique(codes, return_counts=True)
        self._levels = [_level(grams, counts, self._base)]
        for n in range(order - 1, 0, -1):
            # An n-gram without its first character; the first characters differ, since the n-grams
            # do.
            grams, counts = np.unique(grams % self._base**n, return_counts=True)
            self._levels.insert(0, _level(grams, counts, self._base))

    @property
    def alphabet(self) -> str:
        """The characters of the training text, sorted."""
        return "".join(map(chr, self._points[self._points >= 0]))

    @property
    def symbols(self) -> np.ndarray:
        """The code points or ids of the training data, sorted; -1 is the edge of sequences."""
        return self._points.copy()

    def nats(self, text: str) -> np.ndarray:
        """The negative log-likelihood of each character, given those before it, in nats.

        The first characters have a shorter context. The mean is the cross-entropy in nats per
        character.

        Raises:
            ValueError: the text is empty.
        """
        if not text:
            raise ValueError("text='': expected at least one character.")
        symbols = np.concatenate([np.zeros(self.order - 1, np.int64), self._symbols(_points(text))])
        windows = np.lib.stride_tricks.sliding_window_view(symbols, self.order)
        return -np.log(self._score(windows))

    def probabilities(self, context: str) -> np.ndarray:
        """The probabilities of the next character: unknown first, then those of `alphabet`."""
        symbols = self._symbols(_points(context))[-(self.order - 1) :] if self.order > 1 else []
        windows = np.zeros((self._base, self.order), np.int64)
        windows[:, self.order - 1 - len(symbols) : -1] = symbols
        windows[:, -1] = np.arange(self._base)
        return self._score(windows)

    def automaton(self, classes: int) -> "Automaton":
        """The model of ids as a table, for decoders that compute with tensors.

        A state is a context: as much of the symbols before as the model distinguishes.

        Args:
            classes: the number of ids. What follows an id that does not occur in the training data
                has no context.

        Raises:
            ValueError: the model is not one of sequences, one of its ids is not below `classes`, or
                the table has too many entries.

        Example: what begins a sequence, and what follows it.

            >>> import numpy as np, kerasrnn
            >>> model = kerasrnn.NGrams.of_sequences([[1, 2], [1, 3, 2]], order=2)
            >>> table = model.automaton(classes=4)
            >>> after_1 = table.following[table.start, 1]
            >>> for state in (table.start, after_1):
            ...     print(np.exp(table.log_probabilities[state]).round(2))
            [0.05 0.6  0.15 0.1 ]
            [0.05 0.1  0.4  0.35]
        """
        if EDGE not in self._points:
            raise ValueError("a model of a text has no beginning: expected NGrams.of_sequences.")
        if (greatest := int(self._points.max())) >= classes:
            raise ValueError(
                f"classes={classes}: expected more than the greatest id of the sequences, "
                f"{greatest}."
            )
        contexts = [level.contexts for level in self._levels]
        offsets = np.cumsum([0, *map(len, contexts)])
        if offsets[-1] * (classes + 1) > MOST_ENTRIES:
            raise ValueError(
                f"{offsets[-1]:,} contexts and {classes} classes: expected a table of at most "
                f"{MOST_ENTRIES:,} entries. Choose a lower order."
            )
        next_symbols = self._symbols(np.arange(-1, classes))  # the edge first
        tables, following = [], []
        for m, of_length in enumerate(contexts):
            p = np.full((len(of_length), classes + 1), 1 / self._base)
            for n, level in enumerate(self._levels[: m + 1], start=1):
                context = of_length[:, None] % self._base ** (n - 1)
                grams = context * self._base + next_symbols
                kept = _look_up(context, level.contexts, level.left, 1.0)
                p = _look_up(grams, level.grams, level.discounted, 0.0) + kept * p
            tables.append(np.log(p))
            longer = of_length[:, None] * self._base + next_symbols
            # The longest known end of the context and the symbol: a known symbol is in it, since
            # an n-gram with an unknown one never occurs.
            state = np.zeros(longer.shape, np.int64)
            for k in range(1, min(m + 1, self.order - 1) + 1):
                found = _look_up(
                    longer % self._base**k, contexts[k], np.arange(len(contexts[k])), -1
                )
                state = np.where((found >= 0) & (next_symbols > 0), offsets[k] + found, state)
            following.append(state)
        table = np.concatenate(tables)
        start = 0
        for k in range(1, self.order):
            edges = self._codes(self._symbols(np.full((1, k), EDGE)))
            found = int(_look_up(edges, contexts[k], np.arange(len(contexts[k])), -1)[0])
            start = offsets[k] + found if found >= 0 else start
        return Automaton(
            table[:, 1:].astype("float32"),
            table[:, 0].astype("float32"),
            np.concatenate(following)[:, 1:].astype("int32"),
            int(start),
        )

    def write(self, count: int, beginning: str, end: str, longest: int, seed: int) -> list[str]:
        """Generate texts, without the given beginning and without the end symbol.

        Each character is sampled given those before it; the probability of the unknown symbol is
        distributed uniformly over the alphabet.

        Args:
            count: number of texts.
            beginning: the text that each one continues.
            end: the character that ends one.
            longest: the largest number of characters of a text.
            seed: makes the samples reproducible.

        Raises:
            ValueError: `end` is not a character of the alphabet.
        """
        if len(end) != 1 or end not in self.alphabet:
            raise ValueError(f"end={end!r}: expected a character of the alphabet.")
        random = np.random.default_rng(seed)
        known = self._symbols(_points(beginning))[-(self.order - 1) :] if self.order > 1 else []
        contexts = np.zeros((count, self.order - 1), np.int64)
        contexts[:, self.order - 1 - len(known) :] = known
        sums = [np.concatenate([[0.0], np.cumsum(level.discounted)]) for level in self._levels]
        last = int(self._symbols(_points(end))[0])
        written = np.full((count, longest), last)
        active = np.arange(count)
        for step in range(longest):
            drawn = self._draw(contexts, sums, random)
            written[active, step] = drawn
            contexts = np.concatenate([contexts, drawn[:, None]], axis=1)[drawn != last, 1:]
            active = active[drawn != last]
            if not len(active):
                break
        texts = ("".join(self.alphabet[n - 1] for n in row) for row in written)
        return [text.partition(end)[0] for text in texts]

    def _draw(
        self, contexts: np.ndarray, sums: Sequence[np.ndarray], random: np.random.Generator
    ) -> np.ndarray:
        """Sample the next character of each context.

        With the discounted mass of the highest order, one of its n-grams is drawn; with the
        remaining mass, one of the next lower order; and so on.
        """
        drawn = random.integers(1, self._base, len(contexts))  # if no order is chosen
        rows = np.arange(len(contexts))
        for n in range(self.order, 0, -1):
            level, total = self._levels[n - 1], sums[n - 1]
            codes = self._codes(contexts[rows, self.order - n :]) * self._base
            # N-grams of one context are adjacent.
            first, behind = np.searchsorted(level.grams, [codes, codes + self._base])
            points = total[first] + random.random(len(rows))
            kept = points < total[behind]
            place = np.searchsorted(total, points[kept], side="right") - 1
            place = np.clip(place, first[kept], behind[kept] - 1)  # because of rounding
            drawn[rows[kept]] = level.grams[place] % self._base
            rows = rows[~kept]
        return drawn

    def _score(self, windows: np.ndarray) -> np.ndarray:
        """The probability of the last symbol in each row of `windows`, given those before it.

        An unknown symbol in a context, which is also the padding of short ones, makes the context
        one that never occurs.
        """
        p = np.full(len(windows), 1 / self._base)
        for n, level in enumerate(self._levels, start=1):
            grams = self._codes(windows[:, self.order - n :])
            discounted = _look_up(grams, level.grams, level.discounted, 0.0)
            p = discounted + _look_up(grams // self._base, level.contexts, level.left, 1.0) * p
        return p

    def _symbols(self, points: np.ndarray) -> np.ndarray:
        """The numbers 1, 2, ... of the alphabet's characters, and UNKNOWN for others."""
        return _look_up(points, self._points, np.arange(1, self._base), UNKNOWN)

    def _codes(self, windows: np.ndarray) -> np.ndarray:
        """Encode each row of symbols as one integer, with the symbols as digits."""
        codes = np.zeros(len(windows), np.int64)
        for column in windows.T:
            codes = codes * self._base + column
        return codes


class Automaton(NamedTuple):
    """The states of a language model of ids, and their transitions."""

    log_probabilities: np.ndarray
    """float32 `(states, classes)`: of the next id."""

    of_end: np.ndarray
    """float32 `(states,)`: the log-probability that the sequence ends."""

    following: np.ndarray
    """int32 `(states, classes)`: the state after the next id."""

    start: int
    """The state at the beginning of a sequence."""


class _Level(NamedTuple):
    """The terms of p_n: the first term of each occurring n-gram, and γ of each context."""

    grams: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left: np.ndarray


def _level(grams: np.ndarray, counts: np.ndarray, base: int) -> _Level:
    contexts, first, sizes = np.unique(grams // base, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    return _Level(
        grams=grams,
        discounted=(counts - discounts) / np.repeat(totals, sizes),
        contexts=contexts,
        left=np.add.reduceat(discounts, first) / totals,
    )


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D_0 = 0, D_1, D_2 and D_3 for the counts of an order."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    if not n[1:5].all():
        return FALLBACK
    i = np.arange(1, 4)
    estimated = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
    return np.append(0.0, estimated) if np.all((estimated > 0) & (estimated <= i)) else FALLBACK


def _look_up(keys: np.ndarray, known: np.ndarray, values: np.ndarray, default: float) -> np.ndarray:
    """Look up keys in the sorted `known` keys; `default` for unknown ones."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], default)


def _ids(name: str, sequence: Any) -> np.ndarray:
    ids = np.asarray(sequence)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu") or (ids < 0).any():
        raise validation.ArgumentError(name, sequence, "a sequence of nonnegative ids")
    return ids.astype(np.int64)


def _windows(symbols: np.ndarray, order: int) -> np.ndarray:
    """All n-grams of a sequence, `(count, order)`."""
    return np.lib.stride_tricks.sliding_window_view(symbols, order)


def _points(text: str) -> np.ndarray:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
