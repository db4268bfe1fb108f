"""Small stand-ins for the data of every recipe, which can be learned, served by TFDS's own mock.

They have the features of the real datasets, so that recipes load them as they load those.
"""

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets import piano_rolls
from kerasrnn.recipes.datasets.ideographs import ideographs_dataset_builder as ideographs
from tests.recipes.datasets.fonts import collection

SIZES = {"train": 128, "validation": 24, "test": 24}

RHYME = "Tom had a cat.\nThe cat had a hat.\nA fat cat sat.\n"

PROGRESSION = ("48 55 64 72", "53 57 65 72", "55 59 62 71", "48 55 64 72")

# What a picture shows of each part, in a half of itself.
PARTS = {"女": 255, "子": 128, "木": 40, "口": 190}
HELD_OUT = {"validation": ("⿰ 木 女", "⿱ 口 子"), "test": ("⿱ 女 木", "⿰ 子 口")}

FILLING = ("the", "film", "is", "a", "very", "long")
SENTIMENTS = {"negative": ("dull", "bad"), "neutral": ("plain",), "positive": ("fine", "good")}

SENTENCES = (
    ["我", "喜欢", "看", "电视", "。"],
    ["他们", "看", "电影", "，", "我", "也", "喜欢", "电影", "。"],
    ["电视", "在", "学校", "。"],
    ["学生", "在", "学校", "看", "电视", "，", "也", "喜欢", "学校", "。"],
)


def spoken(random: np.random.Generator, n: int) -> dict:
    """Nine speakers, each with a coefficient of his own."""
    speaker = n % 9
    frames = random.standard_normal((random.integers(7, 30), 12)).astype("float32") * 0.3
    frames[:, speaker] += 2.0
    return {"frames": frames, "speaker": speaker}


def garment(random: np.random.Generator, n: int) -> dict:
    """Ten kinds, each with light in other rows."""
    image = random.integers(0, 40, (28, 28, 1)).astype("uint8")
    kind = n % 10
    image[2 * kind + 4 : 2 * kind + 7, 5:23] += 200
    return {"image": image, "label": kind}


def review(random: np.random.Generator, n: int) -> dict:
    """Words that say nothing, and one that says it all."""
    label = n % 3
    word = random.choice(list(SENTIMENTS.values())[label])
    words = [*random.choice(FILLING, random.integers(2, 7)), word]
    return {"text": " ".join(random.permutation(words)), "label": label, "rating": label - 1}


def long_review(random: np.random.Generator, n: int) -> dict:
    """Bad or good, as the reviews of the catalogue are."""
    example = review(random, 2 * (n % 2))
    return {"text": example["text"], "label": n % 2}


def chorale(random: np.random.Generator, n: int) -> dict:
    """Four chords, again and again, from any of them on."""
    chords = [[int(pitch) for pitch in chord.split()] for chord in PROGRESSION]
    length = 17 + n % 8
    frames = list(itertools.islice(itertools.cycle(chords), n % 4, n % 4 + length))
    return {"frames": piano_rolls.from_pitches(frames)}


def ideograph(random: np.random.Generator, n: int, split: str) -> dict:
    """Two parts side by side or above each other, each of its own grey."""
    held_out = [sequence for sequences in HELD_OUT.values() for sequence in sequences]
    every = [" ".join(s) for s in itertools.product("⿰⿱", PARTS, PARTS)]
    sequences = HELD_OUT.get(split) or [s for s in every if s not in held_out]
    operator, first, second = sequences[n % len(sequences)].split()
    image = random.integers(0, 20, (ideographs.SIZE, ideographs.SIZE, 1)).astype("uint8")
    half = ideographs.SIZE // 2
    upright = image if operator == "⿱" else image.transpose(1, 0, 2)
    upright[:half] += np.uint8(PARTS[first] - 20)
    upright[half:] += np.uint8(PARTS[second] - 20)
    sequence = " ".join([operator, first, second])
    return {"image": image, "character": "好", "weight": 3, "sequence": sequence}


def news(random: np.random.Generator, n: int, split: str) -> dict:
    """Sentences of a few words; those of the test split have one more, which is new."""
    words = list(SENTENCES[n % len(SENTENCES)])
    if split == "test" and n % 2:
        words.insert(0, "学电")
    return {"sentence": "".join(words), "words": words, "tags": ["n"] * len(words)}


def examples(dataset: str, split: str) -> list[dict]:
    """The examples of a split."""
    random = np.random.default_rng(list(SIZES).index(split))
    if dataset in ("karpathy_shakespeare", "tiny_shakespeare"):
        return [{"text": RHYME * (30 if split == "train" else 4)}]
    makers = {
        "fashion_mnist": garment,
        "ideographs": lambda random, n: ideograph(random, n, split),
        "imdb_reviews": long_review,
        "japanese_vowels": spoken,
        "jsb_chorales": chorale,
        "movie_snippets": review,
        "peoples_daily": lambda random, n: news(random, n, split),
        "zalando_fashion": garment,
    }
    size = SIZES[split] // (8 if dataset == "jsb_chorales" else 1)
    return [makers[dataset](random, n) for n in range(size)]


@contextlib.contextmanager
def served() -> Iterator[None]:
    """Where TFDS loads a dataset, its stand-in comes."""

    def as_dataset(builder, split, **options) -> tf.data.Dataset:
        found = examples(builder.name, str(split))
        specs = builder.info.features.get_tensor_info()
        signature = {
            name: tf.TensorSpec(spec.shape, tf.as_dtype(spec.np_dtype))
            for name, spec in specs.items()
        }
        return tf.data.Dataset.from_generator(
            lambda: iter(found), output_signature=signature
        ).apply(tf.data.experimental.assert_cardinality(len(found)))

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield


def face():
    """A typeface of bars that has every symbol."""
    symbols = ["⿰", "⿱", *PARTS, "[START]", "[END]", "[UNK]"]
    return ideographs.load_face(collection("".join(s for s in symbols if len(s) == 1)), "regular")
