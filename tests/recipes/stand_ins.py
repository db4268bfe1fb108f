"""Small stand-ins for the data of every recipe, served by TFDS's own mock.

They have the features of the real datasets, so that recipes load them as they load those; and
something in them can be learned.
"""

import contextlib
import itertools
from collections.abc import Iterator
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import ImageFont

from kerasrnn.recipes import datasets
from kerasrnn.recipes.datasets import piano_rolls
from kerasrnn.recipes.datasets.ideographs import ideographs_dataset_builder as ideographs
from tests.recipes.datasets.fonts import collection

# Whole batches, all padded to the same length: every other shape is traced anew.
SIZES = {"train": 128, "validation": 16, "test": 16}
SIZES_OF = {
    "cmu_pronouncing": {"train": 96, "validation": 12, "test": 12},
    "coco_captions": {"train": 12, "val": 3, "test": 3},
    "ideographs": {"train": 48, "validation": 8, "test": 8},
    "jsb_chorales": {"train": 16, "validation": 4, "test": 4},
    "moses": {"train": 96, "test": 24, "test_scaffolds": 24},
    "music21_chorales": {"train": 16, "validation": 4, "test": 4},
}

RHYME = "Tom had a cat.\nThe cat had a hat.\nA fat cat sat.\n"

# C, F, G and C, an octave above where they are sung, as the official chorales are.
PROGRESSION = ([60, 67, 76, 84], [65, 69, 77, 84], [67, 71, 74, 83], [60, 67, 76, 84])

# What a picture shows of each part, in a half of itself.
PARTS = {"女": 255, "子": 128, "木": 40, "口": 190}
HELD_OUT = {"validation": ("⿰ 木 女", "⿱ 口 子"), "test": ("⿱ 女 木", "⿰ 子 口")}

FILLING = ("the", "film", "is", "a", "very", "long")
SENTIMENTS = (("dull", "bad"), ("plain",), ("fine", "good"))

SENTENCES = (
    ["我", "喜欢", "看", "电视", "。"],
    ["他们", "看", "电影", "，", "我", "也", "喜欢", "电影", "。"],
    ["电视", "在", "学校", "。"],
    ["学生", "在", "学校", "看", "电视", "，", "也", "喜欢", "学校", "。"],
)
NEW_WORD = "学电"

# Word by word, what stands between the words, and what comes last.
NOUNS = {
    "de": ("die Katze", "die Maus", "die Kuh", "das Pferd"),
    "en": ("the cat", "the mouse", "the cow", "the horse"),
    "es": ("el gato", "el ratón", "la vaca", "el caballo"),
    "fr": ("le chat", "la souris", "la vache", "le cheval"),
    "ja": ("猫", "ねずみ", "牛", "馬"),
    "pt": ("o gato", "o rato", "a vaca", "o cavalo"),
}
VERBS = {
    "de": ("sieht", "hört", "sucht"),
    "en": ("sees", "hears", "seeks"),
    "es": ("ve", "oye", "busca"),
    "fr": ("voit", "entend", "cherche"),
    "ja": ("見る", "聞く", "探す"),
    "pt": ("vê", "ouve", "procura"),
}
AND = {"de": " und ", "en": " and ", "es": " y ", "fr": " et ", "ja": "と", "pt": " e "}

SOUNDS = {"a": "AE", "e": "EH", "i": "IH", "b": "B", "d": "D", "k": "K", "s": "S", "x": "K S"}

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


def utterance(random: np.random.Generator, n: int, split: str) -> dict:
    """Nine speakers, each with a coefficient of his own."""
    frames = random.standard_normal((random.integers(7, 30), 12)).astype("float32") * 0.3
    frames[:, n % 9] += 2.0
    return {"frames": frames, "speaker": n % 9}


def garment(random: np.random.Generator, n: int, split: str) -> dict:
    """Ten kinds, each with light in other rows."""
    image = random.integers(0, 40, (28, 28, 1)).astype("uint8")
    kind = n % 10
    image[2 * kind + 4 : 2 * kind + 7, 5:23] += 200
    return {"image": image, "label": kind}


def snippet(random: np.random.Generator, n: int, split: str) -> dict:
    """Words that say nothing, and one that says it all."""
    label = n % 3
    words = [*random.choice(FILLING, random.integers(2, 7)), random.choice(SENTIMENTS[label])]
    text = " ".join(random.permutation(words).tolist())
    return {"text": text, "label": label, "rating": float(label - 1)}


def review(random: np.random.Generator, n: int, split: str) -> dict:
    """Bad or good, as the reviews of the catalogue are."""
    return {"text": snippet(random, 2 * (n % 2), split)["text"], "label": n % 2}


def chorale(random: np.random.Generator, n: int, split: str) -> dict:
    """Four chords, again and again, from any of them on."""
    chords = itertools.islice(itertools.cycle(PROGRESSION), n % 4, n % 4 + 17 + n % 2)
    return {"frames": piano_rolls.from_pitches(list(chords))}


def ideograph(random: np.random.Generator, n: int, split: str) -> dict:
    """Two parts side by side or above each other, each of its own grey."""
    held_out = [*HELD_OUT["validation"], *HELD_OUT["test"]]
    every = [" ".join(symbols) for symbols in itertools.product("⿰⿱", PARTS, PARTS)]
    sequences = HELD_OUT.get(split) or [s for s in every if s not in held_out]
    sequence = sequences[n % len(sequences)]
    operator, first, second = sequence.split()
    half = ideographs.SIZE // 2
    image = np.zeros((ideographs.SIZE, ideographs.SIZE, 1), "uint8")
    image[:half], image[half:] = PARTS[first], PARTS[second]
    if operator == "⿰":
        image = image.transpose(1, 0, 2)
    return {"image": image, "character": "好", "weight": 3, "sequence": sequence}


def news(random: np.random.Generator, n: int, split: str) -> dict:
    """Sentences of a few words; half of the test split's have one more, which is new."""
    words = list(SENTENCES[n % len(SENTENCES)])
    if split == "test" and n % 2 == 0:
        words.insert(0, NEW_WORD)
    return {"sentence": "".join(words), "words": words, "tags": ["n"] * len(words)}


def translation(random: np.random.Generator, n: int, split: str) -> dict:
    """An animal and what it does to one other or to two, in every language."""
    subject, *objects = random.permutation(4)[: random.integers(2, 4)].tolist()
    verb = random.integers(3)
    sentences = {}
    for language, nouns in NOUNS.items():
        what = AND[language].join(nouns[n] for n in objects)
        if language == "ja":
            sentences[language] = f"{nouns[subject]}は{what}を{VERBS[language][verb]}。"
        else:
            first, *rest = f"{nouns[subject]} {VERBS[language][verb]} {what}."
            sentences[language] = first.upper() + "".join(rest)
    return sentences


def word(random: np.random.Generator, n: int, split: str) -> dict:
    """Letters that sound alike in every word; of some words the first one may be silent."""
    letters = random.choice(list(SOUNDS), random.integers(3, 5)).tolist()
    sounds = [SOUNDS[letter] for letter in letters]
    pronunciations = [" ".join(sounds), " ".join(sounds[1:])][: 1 + (n % 3 == 0)]
    return {"word": "".join(letters), "pronunciations": pronunciations}


def molecule(random: np.random.Generator, n: int, split: str) -> dict:
    """A chain of carbon and oxygen, which may have one branch."""
    chain = random.choice(["C", "CC", "CO", "C(C)"], random.integers(2, 6)).tolist()
    return {"smiles": "".join(chain) + "C"}


def photograph(random: np.random.Generator, n: int, split: str) -> dict:
    """Fields of one colour; of some there are more captions than of others."""
    colour = list(COLOURS)[n % len(COLOURS)]
    image = np.full((*random.integers(50, 90, 2), 3), COLOURS[colour], "uint8")
    texts = [f"A {colour} field.", f"This is a {colour} field!", "A field"][: 2 + n % 2]
    return {"image": image, "captions": {"text": texts, "id": list(range(len(texts)))}}


def text(random: np.random.Generator, n: int, split: str) -> dict:
    """A rhyme, again and again."""
    return {"text": RHYME * (9 if split == "train" else 4)}


EXAMPLE = {
    "cazala_digits": garment,
    "cmu_pronouncing": word,
    "coco_captions": photograph,
    "fashion_mnist": garment,
    "ideographs": ideograph,
    "imdb_reviews": review,
    "japanese_vowels": utterance,
    "jsb_chorales": chorale,
    "karpathy_shakespeare": text,
    "mnist": garment,
    "moses": molecule,
    "movie_snippets": snippet,
    "multi30k": translation,
    "music21_chorales": chorale,
    "peoples_daily": news,
    "tatoeba": translation,
    "ted_hrlr_translate": translation,
    "tiny_shakespeare": text,
    "wmt14_translate": translation,
    "zalando_fashion": garment,
}


def examples(dataset: str, split: str) -> list[dict]:
    """The examples of a split, the same each time."""
    sizes = dict.fromkeys(SIZES, 1) if EXAMPLE[dataset] is text else SIZES_OF.get(dataset, SIZES)
    random = np.random.default_rng(list(sizes).index(split))
    return [EXAMPLE[dataset](random, n, split) for n in range(sizes[split])]


@contextlib.contextmanager
def served() -> Iterator[None]:
    """Where TFDS loads a dataset, its stand-in comes; nothing is fetched, nothing written."""

    def as_dataset(builder: tfds.core.DatasetBuilder, split: str, **options) -> tf.data.Dataset:
        specs = builder.info.features.get_tensor_spec()
        # A translation is there in more languages than one configuration has.
        found = [
            {name: value for name, value in example.items() if name in specs}
            for example in examples(builder.name, str(split))
        ]
        signature = {name: specs[name] for name in found[0]}
        return tf.data.Dataset.from_generator(
            lambda: iter(found), output_signature=signature
        ).apply(tf.data.experimental.assert_cardinality(len(found)))

    with (
        tfds.testing.mock_data(as_dataset_fn=as_dataset),
        mock.patch.object(datasets, "_prepare"),
        mock.patch.object(ideographs, "fetch_face", side_effect=lambda data_dir: face()),
    ):
        yield


def face() -> ImageFont.FreeTypeFont:
    """A typeface of bars for the symbols of `ideograph`, as `hanzi_structure` draws with."""
    return ideographs.load_face(collection("".join(["⿰⿱", *PARTS])), "regular")
