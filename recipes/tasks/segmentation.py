"""Word segmentation as tagging: words and character tags, decoding, a baseline, the scores.

Chinese is written without spaces. The words are encoded by tagging each character as the beginning
(B), middle (M) or end (E) of a word, or as a single-character word (S) (Xue 2003, *Chinese word
segmentation as character tagging*):

    characters   我 喜 欢 电 视 机
    tags         S  B  E  B  M  E
    words        我 喜欢  电视机
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

TAGS = "BMES"
CLAUSE_ENDS = "。！？；"
SHORTEST = 8
"""The minimum length of a segment that ends with a clause, so that few segments are tiny."""


def to_tags(words: Sequence[str]) -> str:
    """Return the tags of the characters of some words.

    Raises:
        ValueError: a word is empty.

    Example:
        >>> to_tags(["我", "喜欢", "电视机"])
        'SBEBME'
    """
    if not all(words):
        raise ValueError(f"words={words!r}: expected words of at least one character")
    return "".join("S" if len(word) == 1 else f"B{'M' * (len(word) - 2)}E" for word in words)


def to_words(sentence: str, tags: str) -> list[str]:
    """Segment a sentence into words by its tags.

    A word ends after every E and S and before every B and S, and nowhere else. This inverts
    `to_tags`. Predicted tags may be inconsistent, and the rule covers these cases, too: a word
    without an end (B, B) ends where the next one begins, a middle or an end without a beginning (S,
    M) begins a word, and the last word ends with the sentence.

    Args:
        sentence: the characters.
        tags: one of B, M, E and S for each.

    Raises:
        ValueError: there are more or fewer tags than characters, or other letters among them.

    Example:
        >>> to_words("我喜欢电视机", "SBEBME")
        ['我', '喜欢', '电视机']
        >>> to_words("我喜欢电视机", "MBBMES")
        ['我', '喜', '欢电视', '机']
    """
    if len(tags) != len(sentence) or not set(tags) <= set(TAGS):
        raise ValueError(
            f"tags={tags!r}: expected {len(sentence)} of the letters {', '.join(TAGS)}, "
            f"one for each character of {sentence!r}"
        )
    words: list[str] = []
    ended = True
    for character, tag in zip(sentence, tags, strict=True):
        if ended or tag in "BS":
            words.append(character)
        else:
            words[-1] += character
        ended = tag in "ES"
    return words


def segments(words: Sequence[str], longest: int) -> list[list[str]]:
    """Cut a sentence's words (or characters) into segments of at most `longest` characters.

    Cuts are made at the end of a clause if possible, so that a segment has the context it needs. A
    word longer than a segment is split into several words.
    """
    pieces: list[list[str]] = []
    piece: list[str] = []
    length = 0
    for word in words:
        for start in range(0, len(word), longest):
            part = word[start : start + longest]
            if length + len(part) > longest:
                pieces.append(piece)
                piece, length = [], 0
            piece.append(part)
            length += len(part)
        if word in CLAUSE_ENDS and length >= SHORTEST:
            pieces.append(piece)
            piece, length = [], 0
    return [p for p in (*pieces, piece) if p]


def most_likely_tags(scores: Sequence["np.ndarray"]) -> list[str]:
    """The consistent tags of each sentence with the highest sum of scores: see `kerasrnn.CRF`.

    A word ends before one begins: E or S goes before B or S, and B or M before M or E; the first
    tag is B or S, the last E or S.

    Args:
        scores: for each sentence `(characters, 4)`: log-probabilities of B, M, E and S.
    """
    import keras
    import numpy as np

    import kerasrnn

    longest = max(map(len, scores))
    padded = np.zeros((len(scores), longest, len(TAGS)))
    for row, of_sentence in zip(padded, scores, strict=True):
        row[: len(of_sentence)] = of_sentence
    valid = np.arange(longest) < np.array([[len(each)] for each in scores])
    tags, _ = kerasrnn.CRF(list(TAGS), scheme="BMES").decode(padded, valid)
    rows = keras.ops.convert_to_numpy(tags)
    return [
        "".join(TAGS[tag] for tag in row[: len(of_sentence)])
        for row, of_sentence in zip(rows, scores, strict=True)
    ]


def longest_match(sentences: Iterable[str], vocabulary: set[str]) -> list[list[str]]:
    """Baseline: greedy longest match from the left with the training vocabulary."""
    most = max(map(len, vocabulary))
    segmented = []
    for sentence in sentences:
        words, start = [], 0
        while start < len(sentence):
            ends = range(min(len(sentence), start + most), start, -1)
            end = next((e for e in ends if sentence[start:e] in vocabulary), start + 1)
            words.append(sentence[start:end])
            start = end
        segmented.append(words)
    return segmented


class Scores(NamedTuple):
    """Scores of a word segmentation.

    - `precision`, `recall`: the fraction of the predicted words that are correct, and of the
      reference words that were found.
    - `f1`: 2 precision recall / (precision + recall).
    - `oov_rate`: the fraction of the reference words that are out of vocabulary.
    - `oov_recall`, `iv_recall`: recall of the words out of and in the vocabulary; None if the
      reference has no such word.
    """

    precision: float
    recall: float
    f1: float
    oov_rate: float
    oov_recall: float | None
    iv_recall: float | None


def score(
    references: Sequence[Sequence[str]],
    predictions: Sequence[Sequence[str]],
    vocabulary: Collection[str],
) -> Scores:
    """Score predicted words by the definitions of the SIGHAN bakeoffs.

    A predicted word is correct if the reference has a word that begins and ends at the same
    characters. The words of all sentences are counted together. The definitions are those of
    Emerson (2005), *The second international Chinese word segmentation bakeoff*, section 3. The
    bakeoff's own script aligns words with `diff`, so in rare cases it credits a word at another
    position.

    Args:
        references: the true words of every sentence.
        predictions: the predicted words of the same sentences, in the same order.
        vocabulary: the words of the training data, preferably a set; all others are out of
            vocabulary.

    Raises:
        ValueError: there are no words, or an empty one; the number of predictions differs from that
            of references; or a prediction has other characters than its reference.

    Example:
        >>> score([["我", "喜欢", "电视机"]], [["我", "喜欢", "电视", "机"]], {"我", "喜欢"})[:2]
        (0.5, 0.6666666666666666)
    """
    if len(references) != len(predictions):
        raise ValueError(
            f"predictions: expected {len(references)}, one for each reference, "
            f"found {len(predictions)}"
        )
    known = set(vocabulary)
    predicted = 0
    words = {True: 0, False: 0}  # of the reference, by whether they are known
    matches = {True: 0, False: 0}
    for number, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        if "".join(reference) != "".join(prediction):
            raise ValueError(
                f"predictions[{number}]: expected the characters {''.join(reference)!r}, "
                f"found {''.join(prediction)!r}"
            )
        if not all(reference) or not all(prediction):
            raise ValueError(
                f"words of sentence {number}: expected at least one character each, "
                f"found {reference!r} and {prediction!r}"
            )
        places = set(_places(prediction))
        predicted += len(prediction)
        for word, place in zip(reference, _places(reference), strict=True):
            words[word in known] += 1
            matches[word in known] += place in places
    total = words[True] + words[False]
    if not total:
        raise ValueError("references: expected at least one word, found none")
    right = matches[True] + matches[False]
    return Scores(
        precision=right / predicted,
        recall=right / total,
        f1=2 * right / (predicted + total),
        oov_rate=words[False] / total,
        oov_recall=matches[False] / words[False] if words[False] else None,
        iv_recall=matches[True] / words[True] if words[True] else None,
    )


def tagged_f1(
    references: Iterable[tuple[Sequence[str], Sequence[str]]],
    predictions: Iterable[tuple[Sequence[str], Sequence[str]]],
) -> float:
    """F1 of words with their parts of speech.

    A predicted word is correct if the reference has a word that begins and ends at the same
    characters, with the same part of speech (Ng & Low 2004, *Chinese part-of-speech tagging*). The
    words of all sentences are counted together.

    Args:
        references: words and parts of speech of every sentence.
        predictions: those of the same sentences, in the same order.

    Raises:
        ValueError: the number of predictions differs from that of references, or the number of
            parts of speech from that of words; or there are no words.

    Example:
        >>> tagged_f1([(["我", "喜欢"], ["r", "v"])], [(["我", "喜", "欢"], ["r", "v", "v"])])
        0.4
    """
    right = total = 0
    for sentences in zip(references, predictions, strict=True):
        expected, predicted = (
            set(zip(_places(words), parts, strict=True)) for words, parts in sentences
        )
        right += len(expected & predicted)
        total += len(expected) + len(predicted)
    if not total:
        raise ValueError("references: expected at least one word, found none")
    return 2 * right / total


def _places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The beginning and end of each word."""
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word)
