"""Samplers, compared with the distributions of their equations."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kerasrnn.decoding import Bernoulli, Greedy, Identity, Sample, Threshold
from tests import numpy_models
from tests.catalogue import variant_id

LOGITS = np.array([0.3, 2.0, -1.0, 1.2, 0.0, 1.9, -3.0], "float32")
DRAWS = 20_000

SAMPLES = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"temperature": 1e-30},
    {"top_k": 1},
    {"top_k": 3},
    {"top_k": 50},
    {"top_p": 0.7},
    {"top_p": 1e-6},
    {"temperature": 2.0, "top_k": 5, "top_p": 0.8},
]


def truncated(logits, temperature=1.0, top_k=None, top_p=None):
    """The distribution to draw from, by a search among all sets of classes.

    The most probable set of `top_k` classes; of its subsets with at least the probability `top_p`,
    the smallest, and of these the most probable.
    """
    p = numpy_models.softmax(np.asarray(logits, "float64") / temperature)
    everything = range(len(p))
    head = everything
    if top_k is not None:
        sets = itertools.combinations(everything, min(top_k, len(p)))
        head = max(sets, key=lambda chosen: p[list(chosen)].sum())
    p = np.where(np.isin(everything, head), p, 0)
    p = p / p.sum()
    if top_p is not None:
        sets = [
            chosen
            for size in range(1, len(p) + 1)
            for chosen in itertools.combinations(everything, size)
            if p[list(chosen)].sum() >= top_p - 1e-12
        ]
        smallest = min(map(len, sets))
        head = max(
            (chosen for chosen in sets if len(chosen) == smallest),
            key=lambda chosen: p[list(chosen)].sum(),
        )
        p = np.where(np.isin(everything, head), p, 0)
    return p / p.sum()


def assert_drawn_from(p, counts):
    """Pearson's statistic, at most five of its standard deviations above its mean."""
    counts = np.asarray(counts, "float64")
    expected = p * counts.sum()
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert statistic <= freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("options", SAMPLES, ids=variant_id)
def test_sample_draws_from_the_truncated_distribution(options):
    noise = np.random.default_rng(1).random(DRAWS).astype("float32")
    logits = np.broadcast_to(LOGITS, (DRAWS, len(LOGITS)))
    drawn = np.asarray(Sample(**options)(logits, noise))
    assert_drawn_from(truncated(LOGITS, **options), np.bincount(drawn, minlength=len(LOGITS)))


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=6),
    st.floats(0.05, 1.0),
    st.sampled_from([None, 1, 2, 4]),
)
def test_sets_and_shares_are_those_of_the_definition(logits, top_p, top_k):
    """Noise in the middle of a class's share draws that class; noise near 1, a possible class."""
    logits = np.array(logits, "float32")
    gaps = np.abs(logits[:, None] - logits)[~np.eye(len(logits), dtype=bool)]
    assume(gaps.min() > 1e-3)  # ties may be broken either way
    whole = truncated(logits, top_k=top_k)
    order = np.argsort(-whole)
    assume(np.abs(np.cumsum(whole[order]) - top_p).min() > 1e-5)
    p = truncated(logits, top_k=top_k, top_p=top_p)
    shares = p[order]
    ends = np.cumsum(shares)
    ids = [k for k in range(len(p)) if shares[k] > 1e-5]
    noise = np.array([*(ends[ids] - shares[ids] / 2), 1 - 2.0**-24], "float32")
    rows = np.broadcast_to(logits, (len(noise), len(logits)))
    drawn = np.asarray(Sample(top_k=top_k, top_p=top_p)(rows, noise)).tolist()
    assert drawn[:-1] == order[ids].tolist()
    assert p[drawn[-1]] > 0


def test_deterministic_samplers():
    logits = np.array([[0.1, 2.0, -1.0], [3.0, 2.0, 4.0]], "float32")
    assert np.asarray(Greedy()(logits)).tolist() == [1, 2]
    np.testing.assert_array_equal(Identity()(logits), logits)
    p = np.array([[0.2, 0.5, 0.9]])
    flags = Threshold(0.45)(np.log(p / (1 - p)).astype("float32"))
    assert np.asarray(flags).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_bernoulli_draws_flags_independently(temperature):
    logits = np.broadcast_to(LOGITS, (DRAWS, len(LOGITS)))
    noise = np.random.default_rng(2).random(logits.shape).astype("float32")
    drawn = np.asarray(Bernoulli(temperature)(logits, noise))
    p = numpy_models.sigmoid(LOGITS / temperature)
    deviation = np.sqrt(p * (1 - p) / DRAWS)
    assert (np.abs(drawn.mean(axis=0) - p) <= 4 * deviation).all()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(len(p))).max() < 5 / np.sqrt(DRAWS)


@pytest.mark.parametrize(
    "sampler", [Greedy(), Sample(0.7, 5, 0.9), Threshold(0.3), Bernoulli(2.0), Identity()], ids=repr
)
def test_configurations(sampler):
    config = keras.saving.serialize_keras_object(sampler)
    assert config["registered_name"] == f"kerasrnn>{type(sampler).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again) == repr(sampler)


def test_representation():
    assert repr(Sample(0.7, 5)) == "Sample(temperature=0.7, top_k=5, top_p=None)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample(temperature=0), "temperature=0: expected a positive number"),
        (lambda: Sample(temperature=float("inf")), "temperature=inf: expected a positive number"),
        (lambda: Sample(top_k=0), "top_k=0: expected a positive integer or None"),
        (lambda: Sample(top_k=2.0), r"top_k=2\.0: expected a positive integer or None"),
        (lambda: Sample(top_p=0.0), r"top_p=0\.0: expected a number in \(0, 1\]"),
        (lambda: Sample(top_p=1.1), r"top_p=1\.1: expected a number in \(0, 1\]"),
        (lambda: Threshold(1), r"threshold=1.0: expected a number in \(0, 1\)"),
        (lambda: Bernoulli(-1), "temperature=-1: expected a positive number"),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
