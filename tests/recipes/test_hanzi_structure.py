"""Pictures in, sequences out: what is read, what is said, what is counted."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasrnn import recipes
from kerasrnn.recipes import hanzi_structure
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import image_to_text
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("hanzi_structure")


@pytest.fixture(scope="module")
def data():
    """Its stand-in."""
    with stand_ins.served():
        return RECIPE.load(RECIPE.tiny())


def test_symbols_are_numbered_and_end(data):
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    assert symbols[2:4] == ["[END]", "[START]"]
    assert set(symbols[4:]) == {"⿰", "⿱", *stand_ins.PARTS}
    for ((_, previous), target), sequence in zip(
        data.test.as_numpy_iterator(), data.raw["test_texts"], strict=True
    ):
        assert [symbols[n] for n in previous] == ["[START]", *sequence.split()]
        assert [symbols[n] for n in target] == [*sequence.split(), "[END]"]
    # Characters to be judged by are not among those that are trained on.
    trained = {x["sequence"].decode() for x in data.raw["train"].as_numpy_iterator()}
    assert not trained & set(data.raw["test_texts"])


def test_scores_by_hand():
    """One of five right; edits: 0, 1 put for another, 1 too many, 3 missing, 2 for others and 1
    missing, of 1 + 3 + 3 + 3 + 3 symbols."""
    expected = ["木", "⿰ 女 子", "⿰ 女 子", "⿰ 女 子", "⿱ 木 口"]
    said = ["木", "⿰ 女 木", "⿰ 女 子 子", "", "女 子"]
    scores = hanzi_structure._scores(expected, said)
    assert scores["test_exact_match"] == pytest.approx(1 / 5)
    assert scores["test_symbol_error_rate"] == pytest.approx((0 + 1 + 1 + 3 + 3) / 13)
    assert scores["test_well_formed"] == pytest.approx(2 / 5)


def speaker(data, follows):
    """A model that says of any picture the same: after each symbol the one that `follows` it.

    The state is the symbol before, since the update gate is shut and nothing else comes in.
    """
    size = len(data.metadata["vocabulary"]) + 2
    config = dataclasses.replace(RECIPE.tiny(), units=size, embedding=size, mode="state")
    model = RECIPE.model(config, data)
    decoder = model.get_layer("decoder")
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    for weight in decoder.weights:
        weight.assign(np.zeros(weight.shape))
    decoder.embedding.embeddings.assign(np.eye(size))
    kernel, _, bias = decoder.stack.layers[0].weights
    shut = np.zeros(bias.shape)
    shut[..., :size] = -25.0
    bias.assign(shut)
    kernel.assign(np.concatenate([np.zeros((size, 2 * size)), 5 * np.eye(size)], axis=1))
    readout = np.zeros((size, size))
    for before, after in follows.items():
        readout[symbols.index(before), symbols.index(after)] = 10.0
    decoder.readout.weights[0].assign(readout)
    return RECIPE.bundle(model, config, data)


@pytest.mark.parametrize(
    ("follows", "said"),
    [
        ({"[START]": "⿰", "⿰": "女", "女": "子", "子": "[END]", "[END]": "口"}, "⿰ 女 子"),
        ({"[START]": "木", "木": "[UNK]", "[UNK]": "口"}, "木"),  # the unknown is never generated
        ({"[START]": "[END]"}, ""),
        ({"[START]": "口", "口": "口"}, " ".join("口" * 26)),
    ],
    ids=["sequence", "unknown", "nothing", "without end"],
)
def test_predictions_stop_at_the_end_symbol(data, follows, said):
    images = np.random.default_rng(0).uniform(0, 255, (2, 40, 40, 1)).astype("float32")
    model = speaker(data, follows)
    assert RECIPE.describe(model, data.metadata["vocabulary"], images) == [said, said]


def test_evaluation_scores_the_predictions(data, tmp_path):
    """The stand-in's test sequences are ⿱ 女 木 and ⿰ 子 口, in turn."""
    model = speaker(data, {"[START]": "⿱", "⿱": "女", "女": "木", "木": "[END]"})
    metrics = RECIPE.evaluate(model, data, RECIPE.tiny(), tmp_path)
    metrics |= RECIPE.baselines(data, RECIPE.tiny())
    assert metrics["test_exact_match"] == 0.5
    assert metrics["test_symbol_error_rate"] == pytest.approx(3 / 6)
    assert metrics["test_well_formed"] == 1.0
    assert metrics["baseline_nearest_picture_test_exact_match"] == 0.0
    assert (tmp_path / "examples.png").read_bytes().startswith(b"\x89PNG")


def test_the_nearest_picture_by_hand(data):
    """By the squared distance to every one of those to learn from."""
    images = np.stack([x["image"] for x in data.raw["test"].as_numpy_iterator()])[:2]
    known = list(data.raw["train"].as_numpy_iterator())
    found = image_to_text.nearest_sequences(data.raw["train"], images.astype("float32"))
    for image, sequence in zip(images, found, strict=True):
        gaps = [((x["image"].astype(float) - image) ** 2).sum() for x in known]
        assert known[int(np.argmin(gaps))]["sequence"].decode() == sequence


def test_pictures_are_shifted_and_their_texts_are_not():
    image = np.zeros((40, 40, 1), "uint8")
    image[10:20, 15:30] = np.arange(150).reshape(10, 15, 1) + 1
    example = ((image, np.array([3, 5])), np.array([5, 2]))
    dataset = tf.data.Dataset.from_tensors(example).repeat(24)
    config = dataclasses.replace(RECIPE.tiny(), shift=2, stretch=0.0, batch_size=24)
    batches = RECIPE.batches(dataset, config, training=True)
    ((images, previous), target), = batches.as_numpy_iterator()  # fmt: skip
    np.testing.assert_array_equal(previous[:, :2], [[3, 5]] * 24)
    np.testing.assert_array_equal(target[:, :2], [[5, 2]] * 24)
    seen = set()
    for moved in images:
        y, x, _ = np.argwhere(moved == 1)[0]
        shift = (int(y) - 10, int(x) - 15)
        np.testing.assert_array_equal(moved, np.roll(image, shift, axis=(0, 1)))
        seen.add(shift)
    assert seen <= {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    assert len(seen) >= 8
    ((still, _), _), *_ = RECIPE.batches(dataset, config).as_numpy_iterator()
    np.testing.assert_array_equal(still, [image] * 24)


def test_pictures_are_stretched_about_their_middle():
    """Of a square of 20 pixels, what it covers in each direction, and where its middle is."""
    image = np.zeros((40, 40, 1), "uint8")
    image[10:30, 10:30] = 255
    example = ((image, np.array([3])), np.array([5]))
    dataset = tf.data.Dataset.from_tensors(example).repeat(64)
    config = dataclasses.replace(RECIPE.tiny(), shift=0, stretch=0.25, batch_size=64)
    batches = RECIPE.batches(dataset, config, training=True)
    ((images, _), _), = batches.as_numpy_iterator()  # fmt: skip
    ink = images[..., 0] / 255
    heights, widths = ink[:, :, 20].sum(axis=1), ink[:, 20].sum(axis=1)
    for sizes in (heights, widths):
        # A pixel's worth of paper at each end is mixed in, and sums of ink are rounded down.
        assert 20 / 1.25 - 0.2 <= sizes.min() < 17.5
        assert 22.9 < sizes.max() <= 20 * 1.25 + 0.2
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.4
    np.testing.assert_allclose(ink.sum(axis=(1, 2)), heights * widths, rtol=0.02)
    places = np.arange(40) - 19.5
    for axis in (1, 2):
        middles = (ink.sum(axis=3 - axis) * places).sum(axis=1) / ink.sum(axis=(1, 2))
        np.testing.assert_allclose(middles, 0, atol=0.05)


def test_pictures_of_any_size_and_kind_become_ink_on_paper(tmp_path):
    """A black bar, 80 by 40: between two strips of paper; dark on nothing is dark on paper."""
    Image.new("L", (80, 40), 0).save(tmp_path / "bar.png")
    found = RECIPE.parse_input(str(tmp_path / "bar.png"))
    assert found.shape == (40, 40, 1)
    np.testing.assert_array_equal(found[:, 0, 0], [0] * 10 + [255] * 20 + [0] * 10)
    clear = np.zeros((40, 40, 4), "uint8")  # black, but not to be seen
    clear[5:9, 3, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = RECIPE.parse_input(str(tmp_path / "clear.png"))[..., 0]
    assert np.argwhere(found == 255).tolist() == [[y, 3] for y in range(5, 9)]
    assert (found == 0).sum() == 1600 - 4
    for mode, size in (("1", (1, 900)), ("P", (40, 40)), ("I;16", (40, 40)), ("LA", (3, 3))):
        Image.new(mode, size).save(tmp_path / "other.png")
        found = RECIPE.parse_input(str(tmp_path / "other.png"))
        # The line is too thin to be seen, and what is transparent is paper.
        assert np.all(found == (255 if size == (40, 40) else 0))


@pytest.mark.parametrize("recipe", [RECIPE, recipes.load("fashion_mnist")], ids=lambda r: r.name)
def test_files_that_are_not_pictures(recipe, tmp_path):
    Image.effect_noise((28, 28), 90).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    assert recipe.parse_input(str(tmp_path / "whole.png")).shape[-1] == 1
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("cut.png", "cut.png cannot be read"),
        ("text.png", "text.png cannot be read as an image"),
        ("missing.png", "missing.png cannot be read: .*No such file"),
        ("", "cannot be read: .*Is a directory"),
    ):
        with pytest.raises(DatasetError, match=message):
            recipe.parse_input(str(tmp_path / name))


def test_garments_have_one_size(tmp_path):
    recipe = recipes.load("fashion_mnist")
    Image.new("L", (28, 30)).save(tmp_path / "tall.png")
    with pytest.raises(DatasetError, match=r"expected 28 by 28 pixels; found 28 by 30"):
        recipe.parse_input(str(tmp_path / "tall.png"))
