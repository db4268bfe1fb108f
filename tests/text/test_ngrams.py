"""N-grams: numbers worked by hand, the equations again with dictionaries, and sums of one."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.text.ngrams import NGrams


def test_by_hand():
    """aab: two bigrams, aa and ab; a is preceded by a, and so is b. All discounts are 0.5, 1, 1.5.

    Three symbols: unknown, a, b. p_0 = 1/3 each. Of the unigrams, each has one character before
    it: c = 1 of 2, so p_1(a) = p_1(b) = 0.5/2 + (0.5 + 0.5)/2 * 1/3 = 5/12, p_1(unknown) = 1/6.
    After a, each bigram has c = 1 of 2: p_2(a | a) = 0.5/2 + 1/2 * 5/12 = 11/24, and the unknown
    1/2 * 1/6 = 2/24. After b nothing is known.
    """
    model = NGrams("aab", order=2)
    assert model.alphabet == "ab"
    np.testing.assert_allclose(model.probabilities("a"), [2 / 24, 11 / 24, 11 / 24], rtol=1e-12)
    for context in ("b", "", "?", "a?"):
        np.testing.assert_allclose(model.probabilities(context), [2 / 12, 5 / 12, 5 / 12])
    expected = [5 / 12, 11 / 24, 2 / 24, 5 / 12]
    np.testing.assert_allclose(model.nats("aa?b"), -np.log(expected), rtol=1e-12)


def test_unigrams_by_hand():
    """aaab: c is how often each occurs; D_3 = 1.5 and D_1 = 0.5 are the discounts."""
    found = NGrams("aaab", order=1).probabilities("ab")
    np.testing.assert_allclose(found, [2 / 12, 1.5 / 4 + 2 / 12, 0.5 / 4 + 2 / 12], rtol=1e-12)


def test_discounts_by_hand():
    """Ten letters once, four twice, two three times, one four times.

    Y = 10/18; D_1 = 1 - 2 Y 4/10 = 5/9; D_2 = 2 - 3 Y 2/4 = 7/6; D_3 = 3 - 4 Y 1/2 = 17/9. Of 28
    letters, (10 * 5/9 + 4 * 7/6 + 3 * 17/9) / 28 is left for 18 symbols alike.
    """
    text = "abcdefghij" + "klmn" * 2 + "op" * 3 + "q" * 4
    left = (10 * 5 / 9 + 4 * 7 / 6 + 3 * 17 / 9) / 28
    expected = [0.0] + [4 / 9] * 10 + [2 - 7 / 6] * 4 + [3 - 17 / 9] * 2 + [4 - 17 / 9]
    found = NGrams(text, order=1).probabilities("")
    np.testing.assert_allclose(found, np.array(expected) / 28 + left / 18, rtol=1e-12)


def grams_of(text, order):
    return [text[i : i + order] for i in range(len(text) - order + 1)]


def oracle(text, order, grams=None):
    """p(character, context) by the equations, with dictionaries; None is the unknown character."""
    symbols = sorted(set(text))
    counts = {order: Counter(grams or grams_of(text, order))}
    for n in range(order - 1, 0, -1):
        before = defaultdict(set)
        for gram in counts[n + 1]:
            before[gram[1:]].add(gram[0])
        counts[n] = {gram: len(first) for gram, first in before.items()}

    def discounts(n):
        n1, n2, n3, n4 = (sum(c == i for c in counts[n].values()) for i in (1, 2, 3, 4))
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < d <= i for i, d in enumerate(found, start=1)):
                return found
        return [0.5, 1.0, 1.5]

    def p(character, context, n):
        if n == 0:
            return 1 / (len(symbols) + 1)
        history = context[len(context) - n + 1 :] if len(context) >= n - 1 else None
        after = {
            g[-1]: c for g, c in counts[n].items() if history is not None and g[:-1] == history
        }
        lower = p(character, context, n - 1)
        if not after:
            return lower
        d, total = discounts(n), sum(after.values())
        left = sum(d[min(c, 3) - 1] for c in after.values()) / total
        count = after.get(character, 0)
        return (count - d[min(count, 3) - 1] if count else 0) / total + left * lower

    return lambda character, context: p(character, context, order)


TEXT = (
    "In the beginning was the word, and the word was with the reader, and the reader wrote the "
    "word in the beginning; then the writer read what was written, and wrote the rest of it."
)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_against_dictionaries(order):
    model, p = NGrams(TEXT, order), oracle(TEXT, order)
    text = "the Word was written § in the rest"
    expected = [p(character, text[:i]) for i, character in enumerate(text)]
    assert min(len(set(text) - set(TEXT)), len(set(TEXT) - set(text))) > 0
    np.testing.assert_allclose(np.exp(-model.nats(text)), expected, rtol=1e-12)


@given(st.text("abc", min_size=3, max_size=40), st.text("abcd", max_size=5), st.integers(1, 3))
def test_any_text_against_dictionaries(text, context, order):
    model, p = NGrams(text, order), oracle(text, order)
    expected = [p(character, context) for character in [None, *model.alphabet]]
    np.testing.assert_allclose(model.probabilities(context), expected, rtol=1e-12)


@given(st.text(min_size=4, max_size=60), st.text(max_size=8), st.integers(1, 4))
def test_probabilities_are_positive_and_sum_to_one(text, context, order):
    model = NGrams(text, order)
    assert model.alphabet == "".join(sorted(set(text)))
    for before in (context, text, text[: len(text) // 2] + context, context + text):
        found = model.probabilities(before)
        assert found.shape == (len(model.alphabet) + 1,)
        assert found.min() > 0
        assert math.isclose(found.sum(), 1.0, rel_tol=1e-12)


@given(st.text("abcd", min_size=1, max_size=20))
def test_nats_follow_from_the_probabilities(text):
    """Character by character, as a model would be asked in a dialogue."""
    model = NGrams("abracadabra", order=3)
    expected = [
        model.probabilities(text[:i])[1 + model.alphabet.index(character)]
        for i, character in enumerate(text)
    ]
    np.testing.assert_allclose(model.nats(text), -np.log(expected), rtol=1e-12)


def test_a_longer_context_lowers_the_loss():
    """In a text of period three, a character says nothing of itself and all of the next one."""
    text = "abcabc" * 50
    nats = [NGrams(text, order).nats(text).mean() for order in (1, 2, 3)]
    assert nats[0] == pytest.approx(math.log(3), abs=0.01)
    assert nats[1] < 0.05
    assert nats[2] < 0.05


# Sequences of ids, written as letters here: "|" is the edge.
SEQUENCES = ["abcab", "cab", "b", "", "aabbc", "abcabc", "cccc"]


def ids(text):
    return ["|abcd".index(character) for character in text]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sequences_against_dictionaries(order):
    """Along every sequence of up to five symbols, one of which the model does not know."""
    model = NGrams.of_sequences(list(map(ids, SEQUENCES)), order)
    assert model.symbols.tolist() == [-1, 1, 2, 3]
    edges = "|" * (order - 1)
    padded = [f"{edges}{text}|" for text in SEQUENCES]
    p = oracle("|abc", order, [gram for text in padded for gram in grams_of(text, order)])
    table = model.automaton(5)
    for symbols in itertools.product("abcd", repeat=5):
        context, state = edges, table.start
        for symbol in symbols:
            # Nothing is known of what follows a context with an unknown symbol.
            expected = [p(None if x == "d" else x, context) for x in "abcd"]
            found = np.exp(table.log_probabilities[state, 1:])
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            np.testing.assert_allclose(np.exp(table.of_end[state]), p("|", context), rtol=1e-5)
            context += symbol
            state = table.following[state, ids(symbol)[0]]


def test_invalid_sequences():
    for sequences, order, message in (
        ([], 2, r"^sequences=\[\]: expected a list of sequences of ids"),
        ("ab", 2, "^sequences='ab': expected a list of sequences of ids"),
        ([[1], [2, -1]], 2, r"^sequences\[1\]=\[2, -1\]: expected a sequence of nonnegative ids"),
        ([[0.5]], 2, r"^sequences\[0\]=\[0.5\]: expected a sequence of nonnegative ids"),
        ([[1]], 0, "^order=0: expected a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            NGrams.of_sequences(sequences, order)
    with pytest.raises(ValueError, match=r"a text has no beginning: expected NGrams.of_sequences"):
        NGrams("abc", 2).automaton(3)
    with pytest.raises(ValueError, match="expected a table of at most"):
        NGrams.of_sequences([range(1000)], 2).automaton(10**6)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_samples_have_the_probabilities_of_the_model(order):
    """Of 20,000 texts: how often each character comes first, and after each of these."""
    model = NGrams(TEXT, order)
    beginning = "the word "
    written = model.write(20_000, beginning, ".", 2, seed=0)
    assert written == model.write(20_000, beginning, ".", 2, seed=0)
    assert written != model.write(20_000, beginning, ".", 2, seed=1)

    def check(drawn, context):
        expected = model.probabilities(context)
        # What is unknown is shared among the others.
        expected = expected[1:] + expected[0] / len(model.alphabet)
        found = np.array([drawn.count(character) for character in model.alphabet]) / len(drawn)
        error = np.sqrt(expected * (1 - expected) / len(drawn))
        assert (np.abs(found - expected) < 4 * error + 1e-9).all()

    check([text[:1] or "." for text in written], beginning)
    for first in "wtb":
        after = [text[1:] or "." for text in written if text[:1] == first]
        check(after, beginning + first)


def test_texts_end_at_the_given_positions():
    model = NGrams("abc" * 9, order=2)
    written = model.write(50, "a", "c", 5, seed=0)
    assert {text for text in written if set(text) <= {"b"}} >= {"b"}
    assert all("c" not in text and len(text) <= 5 for text in written)
    with pytest.raises(ValueError, match=r"^end='z': expected a character of the alphabet"):
        model.write(1, "a", "z", 5, seed=0)


@pytest.mark.parametrize(
    ("text", "order", "message"),
    [
        ("abc", 0, "^order=0: expected at least 1, and at most the length of the text, 3"),
        ("abc", 4, "^order=4: expected at least 1, and at most the length of the text, 3"),
        (
            "".join(map(chr, range(0x4E00, 0x4E00 + 4000))),
            6,
            "^order=6: expected at most 5 for a text with 4000 different characters",
        ),
    ],
)
def test_invalid_orders_are_errors(text, order, message):
    with pytest.raises(ValueError, match=message):
        NGrams(text, order)


def test_an_empty_text_has_no_loss():
    with pytest.raises(ValueError, match=r"^text='': expected at least one character"):
        NGrams("abc", 2).nats("")
