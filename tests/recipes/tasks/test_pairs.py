"""Pairs of texts of a user's own file, and of datasets of translations."""

import itertools
import re
import string

import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks.pairs import load_translations, read_pairs
from tests.recipes import stand_ins


def write(folder, pairs):
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{x}\t{y}\n" for x, y in pairs), encoding="utf-8")
    return path


# Of these, about a third are in each part of a split in three.
FILLING = [(f"source {n}", f"target {n}") for n in range(40)]
THIRDS = {"validation": 1 / 3, "test": 1 / 3}


def letters(text):
    return re.sub(r"[^a-zäß0-9]", "", text.lower())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*2 * [st.text("aAbB ä!ß.", min_size=1).filter(str.strip)]), max_size=8),
    st.randoms(use_true_random=False),
)
def test_parts_of_a_file(tmp_path, pairs, random):
    """They make up the file, share no source, and are the same in another order of the lines."""
    pairs = [(x.strip(), y.strip()) for x, y in pairs] + FILLING
    parts = read_pairs(write(tmp_path, pairs), **THIRDS)
    assert list(parts) == ["train", "validation", "test"]
    assert sorted(itertools.chain(*parts.values())) == sorted(pairs)
    sources = [{letters(x) for x, _ in part} for part in parts.values()]
    assert sum(map(len, sources)) == len(set.union(*sources))
    # Of each part in the order of the file, with whatever is there more than once.
    for part in parts.values():
        assert part == [pair for pair in pairs if pair in part]

    random.shuffle(pairs)
    again = read_pairs(write(tmp_path, pairs), **THIRDS)
    assert {split: sorted(part) for split, part in again.items()} == {
        split: sorted(part) for split, part in parts.items()
    }


def test_a_pair_stays_in_its_split(tmp_path):
    """More lines, or a larger fraction, take nothing out of the test data."""
    few = read_pairs(write(tmp_path, FILLING))
    more = read_pairs(write(tmp_path, FILLING + [(f"new {n}", "new") for n in range(40)]))
    wider = read_pairs(write(tmp_path, FILLING), test=0.3)
    for split in few:
        assert set(few[split]) <= set(more[split])
    assert set(few["test"]) < set(wider["test"])


def test_fractions(tmp_path):
    """Of many sources, each part has its share within three standard deviations."""
    pairs = [(f"source {n}", "target") for n in range(4_000)]
    parts = read_pairs(write(tmp_path, pairs), validation=0.05, test=0.2)
    for split, fraction in (("train", 0.75), ("validation", 0.05), ("test", 0.2)):
        deviation = (fraction * (1 - fraction) * 4_000) ** 0.5
        assert abs(len(parts[split]) - fraction * 4_000) < 3 * deviation


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"ein Hund\ta dog\neine Katze\n",
            r", line 2: expected 2 columns .*source, target.*; found 1",
        ),
        (b"ein Hund\ta dog\n\neine\ta\tcat\n", ", line 3: expected 2 columns .*; found 3"),
        (b"ein Hund\t \n", ", line 1: the column target is empty"),
        (b"\ta dog\n", ", line 1: the column source is empty"),
        (b"ein Hund\ta dog\nein K\xe4fer\ta beetle", ", line 2: expected UTF-8 text; found .*0xe4"),
        (b"", ": expected text; found none"),
        (
            b"ein Hund\ta dog\n" * 7,
            ": expected at least one pair in each part; its 7 pairs gave 7 in train, 0 in "
            "validation, 0 in test.*: 90 different sources nearly always suffice",
        ),
        (b"ein Hund\ta dog\n", ": .*; its 1 pair gave 1 in train, 0 in validation, 0 in test"),
        (b"ein Hund\ta dog\neine\0 Katze\ta cat\n", ", line 2: .* control character U.0000"),
    ],
)
def test_invalid_files_are_errors(tmp_path, content, message):
    path = tmp_path / "mine.tsv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"mine\.tsv{message}"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"validation": 0.0}, "validation=0.0: expected a fraction"),
        ({"test": 1}, "test=1: expected a fraction"),
        ({"validation": 0.5, "test": 0.5}, "validation=0.5, test=0.5: expected a sum below 1"),
    ],
)
def test_fractions_that_leave_no_examples(tmp_path, fractions, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(write(tmp_path, FILLING), **fractions)


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("multi30k", "de", "en"),
        ("multi30k", "en", "fr"),
        ("tatoeba/ja", "en", "ja"),
        ("ted_hrlr_translate/pt_to_en", "pt", "en"),
        ("wmt14_translate/de-en", "en", "de"),
    ],
)
def test_translations_are_loaded(tmp_path, name, source, target):
    """Against the examples that are served, and cut to a limit."""
    with stand_ins.served():
        pairs = load_translations(name, source, target, str(tmp_path))
        fewer = load_translations(name, source, target, str(tmp_path), limit=5)
    assert list(pairs) == ["train", "validation", "test"]
    for split, found in pairs.items():
        examples = stand_ins.examples(name.partition("/")[0], split)
        assert found == [(example[source], example[target]) for example in examples]
        assert fewer[split] == (found[:5] if split == "train" else found)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [("ted_hrlr_translate/pt_to_en", "pt", "en"), ("wmt14_translate/de-en", "de", "en")],
)
def test_examples_drawn_by_tfds_are_loaded(tmp_path, name, source, target):
    """Examples drawn by TFDS from the catalogue's own features."""
    with tfds.testing.mock_data(num_examples=4):
        pairs = load_translations(name, source, target, str(tmp_path))
        back = load_translations(name, target, source, str(tmp_path))
    for split, found in pairs.items():
        assert len(found) == 4
        assert set("".join(itertools.chain(*found))) <= set(string.ascii_lowercase + " ")
        assert back[split] == [(y, x) for x, y in found]


def test_pairs_with_a_blank_side_are_not_trained_on(tmp_path, monkeypatch):
    pairs = itertools.cycle([("Bom dia. ", " Good morning."), ("", "Yes."), ("Sim.", " \n")])
    monkeypatch.setitem(
        stand_ins.EXAMPLE,
        "ted_hrlr_translate",
        lambda random, n, split: dict(zip(("pt", "en"), next(pairs), strict=True)),
    )
    monkeypatch.setattr(stand_ins, "SIZES", {"train": 9, "validation": 3, "test": 3})
    with stand_ins.served():
        loaded = load_translations("ted_hrlr_translate/pt_to_en", "pt", "en", str(tmp_path), 2)
    assert loaded == {
        "train": 2 * [("Bom dia.", "Good morning.")],
        "validation": [("Bom dia.", "Good morning."), ("", "Yes."), ("Sim.", "")],
        "test": [("Bom dia.", "Good morning."), ("", "Yes."), ("Sim.", "")],
    }


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tatoeba/fr", ("de", "en"), "source='de': expected a language of tatoeba/fr, .* en, fr"),
        ("multi30k", ("de", "ja"), "target='ja': expected .* of multi30k, which has de, en, fr"),
        ("wmt14_translate/de-en", ("de", "fr"), "target='fr': .* which has de, en"),
        ("mnist", ("de", "en"), "source='de': .* of mnist, which has no texts by language"),
        ("multi30k", ("de", "de"), "target='de': expected a language other than source"),
        ("multi30k", ("de", "en", None, 0), "limit=0: expected 1 or more"),
    ],
)
def test_unknown_languages_are_errors(name, arguments, message):
    """Said before anything is fetched."""
    with pytest.raises(ConfigError, match=message):
        load_translations(name, *arguments)
