"""Chorales moved by semitones, and what a frame costs."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.piano_rolls import from_pitches, to_pitches
from kerasrnn.recipes.tasks import polyphony
from tests import numpy_models
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("bach_chorales")


@pytest.fixture(scope="module")
def tiny():
    """The tiny configuration and its data."""
    with stand_ins.served():
        return RECIPE.tiny(), RECIPE.load(RECIPE.tiny())


def moved(roll, semitones, count):
    """A piece as training sees it in some passes: its pitches, the last frame's included."""
    config = RECIPE.Config(transpose=semitones, batch_size=1)
    dataset = tf.data.Dataset.from_tensors(roll.astype("float32"))
    batches = RECIPE.batches(dataset, config, training=True)
    found = []
    for x, y in batches.repeat().take(count).as_numpy_iterator():
        (x,), (y,) = x[:, : len(roll) - 1], y[:, : len(roll) - 1]
        np.testing.assert_array_equal(x[1:], y[:-1])
        found.append(to_pitches(np.concatenate([x[:1], y])))
    return found


def test_moved_pieces_keep_their_intervals():
    pitches = [[48, 55, 64, 72], [], [50, 57, 65, 74], [48]]
    shifts = set()
    for found in moved(from_pitches(pitches), 5, 40):
        shift = found[0][0] - pitches[0][0]
        assert found == [[pitch + shift for pitch in chord] for chord in pitches]
        shifts.add(shift)
    assert shifts <= set(range(-5, 6))
    assert len(shifts) >= 8
    assert moved(from_pitches(pitches), 0, 2) == [pitches, pitches]


@pytest.mark.parametrize(
    ("pitches", "least", "most"),
    [([[21, 60], [30]], 0, 5), ([[60], [106]], -5, 2), ([[21, 108], [60]], 0, 0)],
)
def test_no_note_leaves_the_keyboard(pitches, least, most):
    """Where a piece would, it stays as it is."""
    shifts = [found[0][0] - pitches[0][0] for found in moved(from_pitches(pitches), 5, 40)]
    assert (min(shifts), max(shifts)) == (least, most)
    for found, shift in zip(moved(from_pitches(pitches), 5, 40), shifts, strict=True):
        assert found == [[pitch + shift for pitch in chord] for chord in pitches]


def test_pieces_are_padded_with_an_impossible_frame():
    rolls = [from_pitches([[60]] * 20), from_pitches([[]] * 33)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(rolls), output_signature=tf.TensorSpec((None, 88), tf.float32)
    )
    (x, y), = RECIPE.batches(dataset, RECIPE.Config()).as_numpy_iterator()  # fmt: skip
    assert x.shape == y.shape == (2, 32, 88)
    np.testing.assert_array_equal((x == -1).all(axis=-1).sum(axis=1), [13, 0])
    np.testing.assert_array_equal(x[0, :19, 60 - 21], 1)
    assert not x[1].any()  # silence is not padding


def test_nats_of_frames_by_hand():
    """Two pieces of three frames and of two; the first frame of each costs nothing."""
    rolls = [from_pitches([[60], [60], [62]]), from_pitches([[60], []])]
    sure = np.zeros((2, 88))
    sure[0, 60 - 21] = 1.0
    sure[1, 62 - 21] = 0.25
    silent = np.full((1, 88), 0.5)
    expected = (0 - math.log(0.25) + 88 * math.log(2)) / 3
    assert polyphony.nats_per_frame([sure, silent], rolls) == pytest.approx(expected, abs=1e-4)
    # What was said to be impossible costs much, but not everything.
    found = polyphony.nats_per_frame([np.zeros((1, 88))], [rolls[0][:2]])
    assert found == pytest.approx(-math.log(1e-7), rel=1e-5)


def test_nats_of_the_model_against_a_loop(tiny, tmp_path):
    config, data = tiny
    model = RECIPE.model(config, data)
    metrics = RECIPE.evaluate(model, data, config, tmp_path)
    total, frames = 0.0, 0
    for roll in data.raw["test"]:
        p = numpy_models.sigmoid(numpy_models.decode(model.get_layer("decoder"), roll[None, :-1]))[
            0
        ]
        for t in range(1, len(roll)):
            for key in range(88):
                total -= math.log(p[t - 1, key] if roll[t, key] else 1 - p[t - 1, key])
        frames += len(roll) - 1
    assert metrics["test_nats_per_frame"] == pytest.approx(total / frames, rel=1e-5)


def test_the_baselines_count(tiny):
    """Keys by how often they sound; and by which sounded before."""
    _, data = tiny
    rolls = data.raw["train"]
    baselines = polyphony.baseline_models(rolls)
    after = np.concatenate([roll[1:] for roll in rolls])
    expected = [(column.sum() + 1) / (len(after) + 2) for column in after.T]
    (found,) = baselines["frequencies"](rolls[0][:1])
    np.testing.assert_allclose(found, expected)
    # The third chord of the four follows the second one, and it alone has 71.
    linear = baselines["linear"](rolls[0][:-1])
    assert (linear[:, 71 - 21] > 0.5).tolist() == (rolls[0][1:, 71 - 21] > 0).tolist()


def test_keys_that_always_or_never_sound_have_a_baseline():
    rolls = [from_pitches([[60, 64], [60, 65], [60, 64], [60, 65]])]
    (found,) = polyphony.baseline_models(rolls)["linear"](rolls[0][:1])
    assert found[60 - 21] == pytest.approx(4 / 5)
    assert found[0] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one pitch"),
        ("C3 G3,", "expected at least one pitch"),
        ("C3 H3", "found 'H3'"),
        ("C3 109", "expected pitches of the piano, A0 .21. to C8 .108.; found '109'"),
        ("C9", "found 'C9', which is 120"),
        ("60.5", "found '60.5'"),
    ],
)
def test_invalid_chords_are_errors(text, message):
    with pytest.raises((ConfigError, DatasetError), match=message):
        RECIPE.parse_input(text)


def test_chords_are_read_in_their_order():
    assert to_pitches(RECIPE.parse_input("C4 E4 60, 72 Bb3")) == [[60, 64], [58, 72]]


def test_prompts_are_transposed_an_octave_up_and_answers_back(tiny, tmp_path, monkeypatch):
    config, data = tiny
    model = RECIPE.model(config, data)
    predict_options = RECIPE.PredictOptions(length=2, temperature=0.05)
    high = RECIPE.parse_input("C7, C8")
    with pytest.raises(ConfigError, match=r"input 2: expected pitches up to C7 \(96\)"):
        RECIPE.predict(
            model,
            data.metadata,
            [RECIPE.parse_input("C4"), high],
            predict_options,
            [tmp_path / "a"] * 2,
        )
    assert not list(tmp_path.iterdir())
    written, titles = [], []
    monkeypatch.setattr(
        "kerasrnn.recipes.tasks.music.write_midi", lambda roll, path, tempo: written.append(roll)
    )
    monkeypatch.setattr(
        "kerasrnn.recipes.tasks.music.draw", lambda roll, path, title, seed: titles.append(title)
    )
    for metadata in (data.metadata, {"dataset": "music21_chorales"}):
        RECIPE.predict(
            model, metadata, [RECIPE.parse_input("C3 G3, C7")], predict_options, [tmp_path / "a"]
        )
        assert to_pitches(written[-1])[:2] == [[48, 55], [96]]
        assert written[-1].shape == (4, 88)
        assert titles[-1] == "C3 G3, C7"
    # The stand-ins' second test piece begins in the second chord.
    example = to_pitches(RECIPE.example(data, 1))
    chords = [*stand_ins.PROGRESSION[1:], stand_ins.PROGRESSION[0]]
    assert example == [[pitch - 12 for pitch in chord] for chord in chords]


def test_the_given_split_is_read(tiny):
    config, data = tiny
    other = dataclasses.replace(config, dataset="music21_chorales")
    with stand_ins.served():
        found = RECIPE.load(other)
    assert found.metadata == {"dataset": "music21_chorales"}
    np.testing.assert_array_equal(found.raw["train"][3], data.raw["train"][3])
