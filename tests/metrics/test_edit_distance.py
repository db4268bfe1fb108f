"""Edit distances, compared with the recursion that defines them, and with jiwer."""

import functools

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.metrics import EditDistance, edit_distance
from tests.catalogue import variant_id
from tests.losses.test_crossentropy import masked

END = 2


def distance(r, h):
    """By the definition of Wagner & Fischer."""

    @functools.cache
    def d(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (r[i - 1] != h[j - 1]))

    return d(len(r), len(h))


def symbols(ids, end, padding):
    ids = list(ids)
    if end in ids:
        ids = ids[: ids.index(end)]
    return [k for k in ids if k != padding and k >= 0]


# Few shapes, since each is compiled separately; few symbols, so that some agree.
ids = st.integers(-1, 5)
shapes = st.sampled_from([(6, 6), (3, 7), (7, 2), (1, 1)])
rows = shapes.flatmap(
    lambda shape: st.lists(
        st.tuples(*(st.lists(ids, min_size=size, max_size=size) for size in shape)),
        min_size=3,
        max_size=3,
    )
)


@given(rows, st.sampled_from([None, END]), st.sampled_from([None, 0]))
def test_equals_the_recursion(rows, end, padding):
    """With padding and negative ids anywhere, and any symbols after the end."""
    references, hypotheses = (np.array(side) for side in zip(*rows, strict=True))
    distances, lengths = edit_distance(references, hypotheses, end, padding)
    for b, (r, h) in enumerate(rows):
        r, h = symbols(r, end, padding), symbols(h, end, padding)
        assert int(distances[b]) == distance(r, h)
        assert int(lengths[b]) == len(r)


def some_rows():
    """Random references, and hypotheses with substitutions, deletions and insertions."""
    random = np.random.default_rng(0)
    references = [random.integers(3, 8, random.integers(1, 9)).tolist() for _ in range(12)]
    hypotheses = [
        [k if random.random() < 0.7 else int(random.integers(3, 8)) for k in r][: len(r) - n % 3]
        + [3] * (n % 4)
        for n, r in enumerate(references)
    ]
    return references, hypotheses


def padded(rows, width, end=None):
    rows = [[*row, *([] if end is None else [end])] for row in rows]
    return np.array([row + [0] * (width - len(row)) for row in rows])


def words(rows):
    return [" ".join(map(str, row)) for row in rows]


@pytest.mark.parametrize("end", [None, END])
def test_the_rate_equals_jiwers(end):
    references, hypotheses = some_rows()
    metric = EditDistance(end, ignore_class=0)
    for part in (slice(0, 5), slice(5, 12)):
        metric.update_state(padded(references[part], 10, end), padded(hypotheses[part], 13, end))
    expected = jiwer.wer(words(references), words(hypotheses))
    assert 0.3 < expected < 0.9
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)


def test_a_weight_is_a_number_of_equal_rows():
    references, hypotheses = some_rows()
    weights = np.arange(12) % 3
    metric = EditDistance(ignore_class=0)
    y, predicted = padded(references, 9), padded(hypotheses, 12)
    metric.update_state(y, predicted, sample_weight=weights)
    again = [words(np.repeat(np.array(r, object), weights)) for r in (references, hypotheses)]
    np.testing.assert_allclose(metric.result(), jiwer.wer(*again), rtol=1e-6)


def test_the_closest_reference_counts():
    references = [
        [[3, 4, 5], [3, 4], [7, 7, 7, 7]],  # the second: 1 of 2
        [[3, 3, 3], [4, 4, 4, 4], [3, 4]],  # the first of equals: 2 of 3
        [[6, 6, 6, 6], [], []],  # there is no other: 3 of 4
        [[], [], []],  # there is none: 1 of 0
    ]
    hypotheses = [[3, 6], [4], [6], [5]]
    # Of the second row: [3,3,3] -> [4] is 3; [4]*4 -> 3; [3,4] -> 1.
    y = np.array([padded(row, 5) for row in references])
    distances, lengths = edit_distance(y, padded(hypotheses, 4), ignore_class=0)
    closest = [
        min(((distance(r, h), n) for n, r in enumerate(row) if r), default=(len(h), 0))
        for row, h in zip(references, hypotheses, strict=True)
    ]
    assert np.asarray(distances).tolist() == [d for d, _ in closest]
    assert np.asarray(lengths).tolist() == [
        len(row[n]) for row, (_, n) in zip(references, closest, strict=True)
    ]
    metric = EditDistance(ignore_class=0)
    metric.update_state(y, padded(hypotheses, 4))
    np.testing.assert_allclose(metric.result(), np.sum(distances) / np.sum(lengths), rtol=1e-6)
    # An empty reference is one, if it says that it ends.
    distances, lengths = edit_distance(np.array([[[END, 0], [3, 4]]]), np.array([[5, END]]), END, 0)
    assert (int(distances[0]), int(lengths[0])) == (1, 0)


def test_empty_sequences():
    none = np.zeros((2, 0), "int32")
    some = np.array([[3, 4], [5, 0]])
    for r, h, expected in ((none, some, [2, 1]), (some, none, [2, 1]), (none, none, [0, 0])):
        assert np.asarray(edit_distance(r, h, ignore_class=0)[0]).tolist() == expected
    assert float(EditDistance().result()) == 0


def test_scores_are_compared_with_targets_step_by_step():
    y = np.array([[3, 4, 5, 0, 0], [3, 3, 4, 4, 0]])
    predicted = np.array([[3, 3, 5, 6, 7], [3, 4, 4, 5, 6]])  # 1 wrong; one left out, one added
    scores = np.eye(8, dtype="float32")[predicted]
    metric = EditDistance(ignore_class=0)
    metric.update_state(y, scores)
    np.testing.assert_allclose(metric.result(), 3 / 7)
    metric.reset_state()
    mask = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    metric.update_state(y, masked(scores, mask))  # [3, 5] for [3, 5]; [3, 4, 4] for [3, 3, 4]
    np.testing.assert_allclose(metric.result(), 1 / 5)
    metric.reset_state()
    metric.update_state(y, masked(predicted, mask))  # ids go on: [3, 5, 6, 7]; [3, 4, 4]
    np.testing.assert_allclose(metric.result(), 4 / 7)


IDS = np.ones((2, 3), "int64")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EditDistance(end=2.0), r"end=2\.0: expected an integer or None"),
        (lambda: EditDistance(ignore_class=""), "ignore_class='': expected an integer or None"),
        (lambda: edit_distance(IDS[0], IDS), r"references of the shape \(3,\): expected ids"),
        (lambda: edit_distance(IDS, IDS[0]), r"hypotheses of the shape \(3,\): expected ids"),
        (
            lambda: edit_distance(IDS, IDS + 2**32),
            r"hypotheses\[0, 0\]=\d{10}: expected an integer",
        ),
        (lambda: EditDistance()(IDS, IDS, [1.0, np.inf]), "sample_weight: expected .*; found inf"),
        (lambda: edit_distance(IDS, IDS[:1]), "hypotheses of 1 rows: expected as many as the"),
        (
            lambda: EditDistance()(IDS, IDS, sample_weight=IDS),
            r"sample_weight of the shape \(2, 3\): expected the weights of rows",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
