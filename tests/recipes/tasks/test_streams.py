"""Streams of characters, and what a character costs."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.text.ngrams import NGrams
from tests import numpy_models
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("char_lm")


@pytest.fixture(scope="module")
def tiny():
    """The tiny configuration and its data."""
    config = dataclasses.replace(RECIPE.tiny(), units=5, depth=2)
    with stand_ins.served():
        return config, RECIPE.load(config)


def streams(length, batch_size, segment, seed=0, training=True):
    """Batches of the numbers 0, 1, 2, ..., whose places they are."""
    config = RECIPE.Config(batch_size=batch_size, segment=segment, seed=seed)
    return RECIPE.batches(tf.data.Dataset.from_tensors(tf.range(length)), config, training)


def passes(batches, count):
    """Several passes over the data, each an array `(segments, 2, rows, segment)`."""
    steps = int(batches.cardinality())
    found = np.array(list(batches.repeat().take(count * steps).as_numpy_iterator()))
    return found.reshape(count, steps, *found.shape[1:])


@settings(max_examples=8)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 60), st.booleans())
def test_segments_of_a_stream_are_consecutive(batch_size, segment, more, training):
    least = batch_size * (segment + 1) + segment if training else batch_size * segment + 1
    length = least + more
    (found,) = passes(streams(length, batch_size, segment, training=training), 1)
    x, y = found[:, 0], found[:, 1]
    np.testing.assert_array_equal(y, x + 1)
    rows = x.transpose(1, 0, 2).reshape(batch_size, -1)
    np.testing.assert_array_equal(np.diff(rows, axis=1), 1)
    # One stream begins where the one before it ends, and few characters are left over.
    np.testing.assert_array_equal(np.diff(rows[:, 0]), rows.shape[1])
    offset = rows[0, 0]
    assert 0 <= offset < segment if training else offset == 0
    assert y.max() < length
    assert length - rows.size <= batch_size * segment + (segment if training else 0)


def test_passes_start_at_different_characters_reproducibly():
    found = passes(streams(3000, 4, 50), 6)
    offsets = found[:, 0, 0, 0, 0]
    assert len(set(offsets.tolist())) >= 4
    np.testing.assert_array_equal(passes(streams(3000, 4, 50), 6), found)
    assert (passes(streams(3000, 4, 50, seed=1), 6)[:, 0, 0, 0, 0] != offsets).any()


def test_a_resumed_run_reads_the_remaining_passes():
    batches = streams(3000, 4, 50)
    found = passes(batches, 4)
    rest = streams(3000, 4, 50).repeat().skip(2 * len(found[0])).take(2 * len(found[0]))
    rest = np.array(list(rest.as_numpy_iterator())).reshape(found[2:].shape)
    np.testing.assert_array_equal(rest, found[2:])


@pytest.mark.parametrize(("longest", "streams"), [(50_000, 8), (10, 24)])
def test_nats_of_characters_against_a_loop(tiny, tmp_path, monkeypatch, longest, streams):
    """Long texts in more streams, eight at a time."""
    monkeypatch.setattr("kerasrnn.recipes.tasks.streams.LONGEST", longest)
    config, data = tiny
    assert (len(data.raw["validation"]) - 1) // (8 * longest) + 1 == streams / 8
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    decoder = RECIPE.trained_model(model).get_layer("decoder")
    metrics = RECIPE.evaluate(model, data, config, tmp_path)
    metrics |= RECIPE.baselines(data, config)

    text, symbols = data.raw["validation"], data.metadata["vocabulary"]
    ids = np.array([symbols.index(c) + 2 if c in symbols else 1 for c in text])
    width = len(ids) // streams
    nats = []
    for row in range(streams):
        stream = ids[None, row * width : (row + 1) * width]
        p = numpy_models.softmax(numpy_models.decode(decoder, stream[:, :-1]))[0]
        nats += [-math.log(p[t, stream[0, t + 1]]) for t in range(width - 1)]
    expected = sum(nats) / len(nats)
    assert metrics["validation_nats"] == pytest.approx(expected, rel=1e-5)
    assert metrics["validation_bits"] == pytest.approx(expected / math.log(2), rel=1e-5)
    assert metrics["validation_perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)
    for order in range(2, 7):
        baseline = NGrams(data.raw["train"], order).nats(text).mean()
        assert metrics[f"baseline_{order}-grams_validation_nats"] == pytest.approx(baseline)


def test_the_saved_model_equals_the_trained_one(tiny):
    """The states that one segment leaves are those that the whole text would have there."""
    config, data = tiny
    trained = RECIPE.model(config, data)
    kept = RECIPE.bundle(trained, config, data)
    lines = [stand_ins.RHYME[n : n + 12] for n in range(4)]
    symbols = data.metadata["vocabulary"]
    ids = np.array([[symbols.index(c) + 2 for c in line] for line in lines])
    parts = [trained.predict_on_batch(ids[:, start : start + 4]) for start in (0, 4, 8)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), kept(tf.constant(lines)), atol=1e-6)


def test_an_own_text(tmp_path):
    """Nine tenths to train on; characters of the last tenth that those have not are unknown."""
    path = tmp_path / "mine.txt"
    path.write_text("ab\n" * 60 + "abz\n" * 5, encoding="utf-8")
    config = dataclasses.replace(RECIPE.tiny(), data=str(path), batch_size=2, segment=3)
    data = RECIPE.load(config)
    assert data.raw == {"train": "ab\n" * 60, "validation": "abz\n" * 5}
    assert set(data.metadata["vocabulary"]) == set("ab\n")
    (ids,) = data.test.as_numpy_iterator()
    expected = [{**{s: n for n, s in enumerate(data.metadata["vocabulary"], 2)}, "z": 1}[c]
                for c in "abz\n"] * 5  # fmt: skip
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"batch_size": 64},
            "batch_size=64, segment=3: expected at least 259 characters of training text",
        ),
        ({"batch_size": 8}, "expected at least 25 characters of validation text; found 20"),
    ],
)
def test_texts_that_are_too_short(tmp_path, overrides, message):
    path = tmp_path / "mine.txt"
    path.write_text("ab\n" * 60 + "abz\n" * 5, encoding="utf-8")
    config = dataclasses.replace(RECIPE.tiny(), data=str(path), segment=3, **overrides)
    with pytest.raises(ConfigError, match=message):
        RECIPE.load(config)


def test_large_alphabets_have_fewer_baselines(tiny, tmp_path, monkeypatch):
    """3,000 characters: their 6-grams are more than 64 bits can number."""
    config, _ = tiny
    path = tmp_path / "mine.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 3000))) * 2, encoding="utf-8")
    config = dataclasses.replace(config, data=str(path), units=2, depth=1)
    data = RECIPE.load(config)
    metrics = RECIPE.baselines(data, config)
    orders = {int(name.split("_")[1][0]) for name in metrics if name.startswith("baseline")}
    assert orders == {2, 3, 4, 5}


def test_missing_lines_and_empty_prompts(tiny):
    _, data = tiny
    assert RECIPE.example(data, 1) == "The cat had a hat.\n"
    lines = data.raw["validation"].count("\n") + 1
    with pytest.raises(ConfigError, match=rf"--test {lines}: .* expected 0 to {lines - 1}"):
        RECIPE.example(data, lines)
    with pytest.raises(DatasetError, match="expected the beginning of the text; found none"):
        RECIPE.parse_input("")


def test_greedy_continues_with_the_most_probable_symbol(tiny, tmp_path):
    config, data = tiny
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    predict_options = RECIPE.PredictOptions(length=4, greedy=True)
    (answer,) = RECIPE.predict(model, data.metadata, ["The"], predict_options)
    symbols = ["", "�", *data.metadata["vocabulary"]]
    ids = [symbols.index(c) for c in "The"]
    for _ in range(4):
        p = np.array(RECIPE.trained_model(model)(np.array([ids])))[0, -1]
        ids.append(int(p[1:].argmax()) + 1)  # padding is never written
    assert answer == "\n" + "".join(symbols[n] for n in ids)


@pytest.mark.parametrize(
    ("name", "value"), [("top_p", 0.0), ("top_p", 1.1), ("temperature", 0.0), ("seed", 2**32)]
)
def test_invalid_sequences(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value}: expected a"):
        RECIPE.PredictOptions(**{name: value})
