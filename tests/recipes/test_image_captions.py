"""Photographs in, sentences out: what is cut, what is read, what is counted."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sacrebleu.metrics import BLEU

from kerasrnn import recipes
from kerasrnn.recipes import image_captions
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("image_captions")
SIDE = image_captions.SIDE


@pytest.fixture(scope="module")
def data():
    """Its stand-in."""
    with stand_ins.served():
        return RECIPE.load(RECIPE.tiny())


def spoken(split):
    """Of each picture the sentences, as they are learned."""
    return [
        [text.lower().strip(".,!?") for text in example["captions"]["text"]]
        for example in stand_ins.examples("coco_captions", split)
    ]


def test_words_are_those_of_lower_case_without_punctuation():
    said = image_captions._words(tf.constant(["A Dog,  sitting!", "It's 5 o'clock", " ?"]))
    assert said.numpy().tolist() == [b"a dog sitting", b"it's 5 o'clock", b""]


@pytest.mark.parametrize("shape", [(2 * SIDE, 5 * SIDE), (3 * SIDE, SIDE), (SIDE, SIDE)])
def test_the_middle_of_a_photograph_is_kept(shape, tmp_path):
    """Half of it one grey, half another; what is beyond the middle is white, and is not seen."""
    height, width = shape
    side = min(shape)
    photograph = np.full((height, width, 3), 255, "uint8")
    top, left = (height - side) // 2, (width - side) // 2
    photograph[top : top + side, left : left + side] = 40
    photograph[top : top + side // 2, left : left + side] = 200
    small = image_captions._small(photograph).numpy()
    expected = np.full((SIDE, SIDE, 3), 40.0)
    expected[: SIDE // 2] = 200
    edge = slice(SIDE // 2 - 2, SIDE // 2 + 2)  # where the halves meet, they mix
    np.testing.assert_allclose(np.delete(small, edge, 0), np.delete(expected, edge, 0), atol=1e-3)
    Image.fromarray(photograph).save(tmp_path / "photograph.png")
    np.testing.assert_array_equal(RECIPE.parse_input(str(tmp_path / "photograph.png")), small)


def test_every_sentence_of_a_picture_is_an_example(data):
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    pictures = stand_ins.examples("coco_captions", "train")
    expected = [
        (image_captions._small(picture["image"]).numpy(), sentence)
        for picture, sentences in zip(pictures, spoken("train"), strict=True)
        for sentence in sentences
    ]
    assert data.train_size == len(expected)
    for ((image, previous), target), (picture, sentence) in zip(
        data.train.as_numpy_iterator(), expected, strict=True
    ):
        np.testing.assert_array_equal(image, picture)
        assert [symbols[n] for n in previous] == ["[START]", *sentence.split()]
        assert [symbols[n] for n in target] == [*sentence.split(), "[END]"]


def test_predictions_are_scored_against_every_reference(data, tmp_path, monkeypatch):
    """BLEU of sacreBLEU; saying of each picture what somebody said of it is all right."""
    sentences = spoken("test")
    seen = []

    def describe(self, model, vocabulary, images):
        seen.append(images)
        return [of_picture[-1] for of_picture in sentences]

    monkeypatch.setattr(type(RECIPE), "describe", describe)
    metrics = RECIPE.evaluate(None, data, RECIPE.tiny(), tmp_path)
    metrics |= RECIPE.baselines(data, RECIPE.tiny())
    assert metrics["test_bleu"] == pytest.approx(100)
    pictures = stand_ins.examples("coco_captions", "test")
    np.testing.assert_array_equal(
        seen[0], [image_captions._small(picture["image"]) for picture in pictures]
    )
    every = [sentence for of_picture in spoken("train") for sentence in of_picture]
    always = max(every, key=every.count)
    most = max(map(len, sentences))
    padded = [[*of_picture, *[None] * (most - len(of_picture))] for of_picture in sentences]
    expected = BLEU().corpus_score([always] * len(sentences), list(zip(*padded, strict=True)))
    assert metrics["baseline_always_one_sentence_test_bleu"] == pytest.approx(expected.score)
