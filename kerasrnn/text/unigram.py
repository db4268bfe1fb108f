"""SentencePiece's unigram model as TensorFlow operations, for exported files without Python.

Kudo (2018), "Subword regularization: improving neural network translation models with multiple
subword candidates", section 3.2: of all segmentations of a text x into pieces of the vocabulary,
the one with the largest sum of scores (log-probabilities), by Viterbi's recursion over the ends e
of pieces:

    best_0 = 0,   best_e = max_l  best_{e-l} + score(x_{e-l+1} ... x_e)

First the text is normalized by the model's own rules (mostly those of NFKC); the longest matching
rule is applied.
"""

import functools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Tensor = Any

BLANK = "\u2581"
UNKNOWN = 1
UNKNOWN_PENALTY = 10.0
"""The amount by which the score of an unknown character is below the lowest score, as in
SentencePiece."""

NORMAL, UNIGRAM = 1, 1
"""Types of pieces and of models in SentencePiece's files."""


class Unigram:
    """Segments texts as SentencePiece does, in a graph.

    Args:
        content: the bytes of a SentencePiece model.

    Raises:
        ValueError: the model is not a unigram model.
    """

    def __init__(self, content: bytes) -> None:
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto.FromString(content)
        spec = proto.normalizer_spec
        if proto.trainer_spec.model_type != UNIGRAM:
            raise ValueError(
                "a SentencePiece model of this kind cannot be exported; expected kind='unigram'."
            )
        self.rules = _rules(spec.precompiled_charsmap)
        self.prefix = spec.add_dummy_prefix
        self.collapses = spec.remove_extra_whitespaces
        normal = {n: p for n, p in enumerate(proto.pieces) if p.type == NORMAL}
        self.pieces = [piece.piece for piece in normal.values()]
        self.ids = np.array(list(normal), "int32")
        self.scores = np.array([piece.score for piece in normal.values()], "float32")
        self.longest = max(map(len, self.pieces))

    def __call__(self, texts: Tensor) -> Tensor:
        """Convert strings `(batch,)` to ids, int32 `(batch, time)`, padded with zeros."""
        import tensorflow as tf

        chars, counts = _signs(self.normalized(texts))
        known, of_length = _windows(chars, self.longest, self.numbers)
        scores, ids = [], []
        unknown = tf.constant(self.scores.min() - np.float32(UNKNOWN_PENALTY))
        for length, number in enumerate(of_length, 1):
            is_piece = (number >= 0) & known[length - 1]
            score = tf.where(is_piece, tf.gather(self.scores, tf.maximum(number, 0)), -np.inf)
            piece = tf.gather(self.ids, tf.maximum(number, 0))
            if length == 1:
                score = tf.where(is_piece, score, unknown)
                piece = tf.where(is_piece, piece, UNKNOWN)
            # At the end of the piece, not at its start.
            late = [[0, 0], [length - 1, 0]]
            signs = tf.shape(score)[1]
            scores.append(tf.pad(score, late, constant_values=-np.inf)[:, :signs])
            ids.append(tf.pad(piece, late)[:, :signs])
        lengths = _viterbi(tf.stack(scores, -1))
        at_end = _ends(lengths, counts)
        chosen = tf.gather(tf.stack(ids, -1), tf.maximum(lengths - 1, 0), batch_dims=2)
        chosen = tf.ragged.boolean_mask(chosen, at_end)
        # A run of unknown characters is one piece.
        before = tf.concat([tf.zeros_like(chosen[:, :1]), chosen[:, :-1]], 1)
        again = (chosen == UNKNOWN) & (before == UNKNOWN)
        return tf.ragged.boolean_mask(chosen, ~again).to_tensor(0)

    def normalized(self, texts: Tensor) -> Tensor:
        """The normalized texts, strings `(batch,)`."""
        import tensorflow as tf

        if self.rules:
            chars, _ = _signs(texts)
            longest = max(map(len, self.rules))
            known, of_length = _windows(chars, longest, self.rule_numbers)
            matched, rule = tf.zeros_like(chars, "int32"), tf.zeros_like(chars, "int32")
            for length, number in enumerate(of_length, 1):
                is_rule = (number >= 0) & known[length - 1]
                matched = tf.where(is_rule, length, matched)
                rule = tf.where(is_rule, number, rule)
            replaced = tf.where(matched > 0, tf.gather(list(self.rules.values()), rule), chars)
            texts = tf.strings.reduce_join(tf.where(_read(matched), replaced, ""), 1)
        if self.collapses:
            texts = tf.strings.regex_replace(texts, "^ +| +$", "")
            texts = tf.strings.regex_replace(texts, " +", " ")
        texts = tf.strings.regex_replace(texts, " ", BLANK)
        if self.prefix:
            texts = tf.where(tf.strings.length(texts) > 0, BLANK + texts, texts)
        return texts

    @functools.cached_property
    def numbers(self) -> Any:
        """The lookup table of the pieces' indices."""
        return _table(self.pieces)

    @functools.cached_property
    def rule_numbers(self) -> Any:
        """The lookup table of the rules' indices."""
        return _table(list(self.rules))


def _table(keys: list[str]) -> Any:
    import tensorflow as tf

    with tf.init_scope():
        numbers = tf.range(len(keys), dtype="int32")
        return tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(keys), numbers), -1
        )


def _signs(texts: Tensor) -> tuple[Tensor, Tensor]:
    """Split texts into characters, `(batch, characters)`, padded with "", and count them."""
    import tensorflow as tf

    chars = tf.strings.unicode_split(texts, "UTF-8")
    counts = tf.cast(chars.row_lengths(), "int32")
    return tf.pad(chars.to_tensor(""), [[0, 0], [0, 1]], constant_values=""), counts


def _windows(chars: Tensor, longest: int, table: Any) -> tuple[list[Tensor], list[Tensor]]:
    """For each length, whether that many characters follow, and the substrings' table values."""
    import tensorflow as tf

    signs = tf.shape(chars)[1]
    window, known, numbers = chars, [], []
    for length in range(1, longest + 1):
        if length > 1:
            following = tf.pad(chars, [[0, 0], [0, length - 1]], constant_values="")
            following = following[:, length - 1 : length - 1 + signs]
            window = window + following
            known.append(known[-1] & (following != ""))
        else:
            known.append(chars != "")
        numbers.append(table.lookup(window))
    return known, numbers


def _viterbi(scores: Tensor) -> Tensor:
    """For each end, the length of the last piece of the best segmentation up to it.

    scores: `(batch, ends, lengths)`. Ties go to the longer last piece.
    """
    import tensorflow as tf

    longest = scores.shape[-1]
    batch = tf.shape(scores)[0]
    # The scores of the last `longest` ends, the latest first.
    best = tf.concat([tf.zeros((batch, 1)), tf.fill((batch, longest - 1), -np.inf)], 1)

    def step(carry: tuple[Tensor, Tensor], at_end: Tensor) -> tuple[Tensor, Tensor]:
        ways = tf.reverse(carry[0] + at_end, [1])
        length = longest - tf.argmax(ways, 1, output_type=tf.int32)
        return tf.concat([tf.reduce_max(ways, 1, keepdims=True), carry[0][:, :-1]], 1), length

    start = (best, tf.zeros_like(best[:, 0], "int32"))
    _, lengths = tf.scan(step, tf.transpose(scores, (1, 0, 2)), start)
    return tf.transpose(lengths)


def _ends(lengths: Tensor, counts: Tensor) -> Tensor:
    """The ends of the pieces of the best segmentation, found backwards from the last character."""
    import tensorflow as tf

    ends = tf.range(1, tf.shape(lengths)[1] + 1)

    def step(carry: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        end, length = now
        is_end = carry[0] == end
        return tf.where(is_end, end - length, carry[0]), is_end

    start = (counts, tf.zeros_like(counts, "bool"))
    _, is_end = tf.scan(step, (ends, tf.transpose(lengths)), start, reverse=True)
    return tf.transpose(is_end)


def _read(matched: Tensor) -> Tensor:
    """Where a rule, or a character without a rule, starts, outside of earlier matches."""
    import tensorflow as tf

    def step(carry: tuple[Tensor, Tensor], length: Tensor) -> tuple[Tensor, Tensor]:
        begins = carry[0] == 0
        left = tf.where(begins, tf.maximum(length, 1), carry[0]) - 1
        return left, begins

    start = (tf.zeros_like(matched[:, 0]), tf.zeros_like(matched[:, 0], "bool"))
    _, begins = tf.scan(step, tf.transpose(matched), start)
    return tf.transpose(begins)


@functools.lru_cache(maxsize=2)  # usually the same for all models
def _rules(charsmap: bytes) -> dict[str, str]:
    return dict(_read_rules(charsmap))


def _read_rules(charsmap: bytes) -> Iterator[tuple[str, str]]:
    """Read the replacements of a model's normalization.

    The rules are stored as a trie in a double array (Aoe 1989), preceded by its size in bytes and
    followed by the replacements, each terminated by a zero. A unit of the array contains a label,
    whether a rule ends there, and the offset of its children; if a rule ends, the next unit
    contains the position of its replacement.
    """
    if not charsmap:
        return
    (size,) = struct.unpack("<I", charsmap[:4])
    units = np.frombuffer(charsmap[4 : 4 + size], "<u4").astype(np.int64)
    replacements = charsmap[4 + size :]
    labels = units & (1 << 31 | 0xFF)
    offsets = (units >> 10) << ((units & (1 << 9)) >> 6)
    pending = [(b"", int(offsets[0]))]
    symbols = np.arange(1, 256)
    while pending:
        key, base = pending.pop()
        at = base ^ symbols
        inside = at < len(units)
        for symbol in symbols[inside][labels[at[inside]] == symbols[inside]]:
            unit = base ^ int(symbol)
            below = unit ^ int(offsets[unit])
            text = key + bytes([symbol])
            if units[unit] >> 8 & 1:
                start = int(units[below] & 0x7FFFFFFF)
                end = replacements.index(b"\0", start)
                yield text.decode(), replacements[start:end].decode()
            pending.append((text, below))
