"""Molecules as strings: how they are numbered, what is written, and what is counted."""

import dataclasses
import math
import sys

import numpy as np
import pytest
from PIL import Image

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.splits import place
from kerasrnn.recipes.tasks import chemistry, short_texts
from kerasrnn.text.ngrams import NGrams
from tests import numpy_models
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("molecules")
TRAIN = [example["smiles"] for example in stand_ins.examples("moses", "train")]
TEST = [example["smiles"] for example in stand_ins.examples("moses", "test")]


@pytest.fixture(scope="module")
def data():
    """Its stand-in."""
    with stand_ins.served():
        return RECIPE.load(RECIPE.tiny())


def test_characters_are_numbered_between_edges(data):
    symbols = ["", "�", *data.metadata["vocabulary"]]
    assert symbols[2] == "\n"
    counts = ["".join(TRAIN).count(symbol) for symbol in symbols[3:]]
    assert set(symbols[3:]) == set("CO()")
    assert counts == sorted(counts, reverse=True)
    for dataset, smiles in ((data.train, TRAIN), (data.test, TEST)):
        assert int(dataset.cardinality()) == len(smiles)
        for (previous, following), expected in zip(
            dataset.as_numpy_iterator(), smiles, strict=True
        ):
            assert "".join(symbols[n] for n in previous) == "\n" + expected
            assert "".join(symbols[n] for n in following) == expected + "\n"
    assert RECIPE.example(data, 3) == TEST[3][: len(TEST[3]) // 2]


def test_the_saved_model_of_texts_equals_the_trained_model_of_ids(data):
    config = RECIPE.tiny()
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    symbols = ["", "�", *data.metadata["vocabulary"]]
    ids = np.array([[symbols.index(c) for c in "\nCCO"], [2, symbols.index("C"), 1, 0]])
    p = model.predict(np.array(["\nCCO", "\nCN"], dtype=object), verbose=0)
    np.testing.assert_allclose(p[:, :3], RECIPE.trained_model(model)(ids)[:, :3], atol=1e-6)


@pytest.mark.parametrize(
    ("longest", "lengths"), [(20, {21}), (31, {32}), (57, {32, 36, 40, 44, 58}), (60, {58, 61})]
)
def test_batches_are_padded_to_a_few_lengths(data, longest, lengths):
    smiles = ["C" * n for n in range(max(lengths) - 30, longest + 1)]
    config = dataclasses.replace(RECIPE.tiny(), longest=longest, batch_size=4)
    dataset = short_texts._numbered(smiles, ["\n", "C"])
    found = {x.shape[1] for x, _ in RECIPE.batches(dataset, config).as_numpy_iterator()}
    assert found <= {32, 36, 40, 44, 58, longest + 1}
    assert lengths <= found


def test_scores_by_hand():
    """Of ten strings eight are molecules: ethanol three times, in two ways of writing it, benzene
    twice, and three others. Of these five, ethanol and methane are known."""
    written = ["OCC", "CCO", "c1ccccc1", "C1=CC=CC=C1", "CCO", "C", "CN", "CC#N", "C(C", "CF(F)F"]
    found = chemistry.scores(chemistry.parsed(written), {"CCO", "C", "CCC"})
    assert found["test_valid"] == pytest.approx(8 / 10)
    assert found["test_unique"] == pytest.approx(5 / 8)
    assert found["test_novel"] == pytest.approx(3 / 5)


def test_repeated_and_empty_strings_are_counted(monkeypatch):
    monkeypatch.setattr(chemistry, "UNIQUE_OF", 3)
    found = chemistry.scores(chemistry.parsed(["C", "C1", "C", "CC", "CCC", "CC"]), {"CC"})
    assert found == pytest.approx({"test_valid": 5 / 6, "test_unique": 2 / 3, "test_novel": 2 / 3})
    found = chemistry.scores(chemistry.parsed(["", "C1", ")"]), set())
    assert found == {"test_valid": 0.0, "test_unique": 0.0, "test_novel": 0.0}


def test_invalid_strings_are_skipped_without_messages(capfd):
    assert chemistry.parsed(["C(", "c1", ""]) == [None] * 3
    assert capfd.readouterr() == ("", "")


def writer(data, follows):
    """A model that says after each character the one that `follows` it.

    The state is the character before, since the update gate is shut and nothing else comes in.
    """
    size = len(data.metadata["vocabulary"]) + 2
    config = dataclasses.replace(RECIPE.tiny(), units=size, embedding=size, cell="gru")
    model = RECIPE.model(config, data)
    decoder = model.get_layer("decoder")
    symbols = ["", "�", *data.metadata["vocabulary"]]
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
        readout[symbols.index(before), symbols.index(after)] = 100.0
    decoder.readout.weights[0].assign(readout)
    return RECIPE.bundle(model, config, data)


def test_generation_continues_the_prompt_to_the_end(data):
    """After (, C and ); after ), O and the end; after C, the same again, as far as there is room.

    A beginning that is as long as a molecule may be is only ended, if at all.
    """
    model = writer(data, {"\n": "(", "(": "C", "C": ")", ")": "O", "O": "\n"})
    beginnings = ["", "C", "OC(", "CO", "O" * 20]
    expected = ["(C)O", "C)O", "OC(C)O", "CO", "O" * 20]
    assert RECIPE.write(model, data.metadata, beginnings) == expected
    model = writer(data, {"\n": "C", "C": "O", "O": "C"})
    assert RECIPE.write(model, data.metadata, ["", "C"]) == ["CO" * 10 + "C", "CO" * 10 + "C"]


def saved(data):
    """An untrained model, as it is saved."""
    config = RECIPE.tiny()
    return RECIPE.bundle(RECIPE.model(config, data), config, data)


def test_the_same_seed_generates_the_same(data):
    model = saved(data)
    found = [RECIPE.write(model, data.metadata, ["C"] * 8, 1.0, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert all(smiles.startswith("C") for smiles in found[0])
    cold = RECIPE.write(model, data.metadata, ["C"] * 8, temperature=1e-5)
    assert len(set(cold)) == 1 < len(set(found[0]))


@pytest.mark.parametrize(
    ("beginning", "message"),
    [
        ("CN", r"^'CN': expected characters of the training molecules, \(\)CO; found 'N'"),
        ("C" * 21, r"expected at most 20 characters, the maximum length of a molecule; found 21"),
    ],
)
def test_prompts_that_cannot_be_continued(data, beginning, message):
    model = saved(data)
    with pytest.raises(ConfigError, match=message):
        RECIPE.write(model, data.metadata, ["C", beginning])


def test_prompts_are_parsed():
    assert [RECIPE.parse_input(smiles) for smiles in ("", "C1CC")] == ["", "C1CC"]
    with pytest.raises(ConfigError, match=r"^'C C': expected the beginning of a SMILES string"):
        RECIPE.parse_input("C C")


def test_evaluation(data, tmp_path, monkeypatch):
    """Nats against a loop; what is written is a training molecule, a new one and none."""
    config = RECIPE.tiny()
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    written = [TRAIN[0], "OOOO", "CC("]
    monkeypatch.setattr(type(RECIPE), "write", lambda *args, **kwargs: written)
    metrics = RECIPE.evaluate(model, data, config, tmp_path) | RECIPE.baselines(data, config)
    assert metrics["test_valid"] == pytest.approx(2 / 3)
    assert metrics["test_unique"] == 1.0
    assert metrics["test_novel"] == pytest.approx(1 / 2)

    symbols = ["", "�", *data.metadata["vocabulary"]]
    nats = []
    for smiles in TEST:
        ids = np.array([[symbols.index(c) for c in f"\n{smiles}\n"]])
        decoder = RECIPE.trained_model(model).get_layer("decoder")
        p = numpy_models.softmax(numpy_models.decode(decoder, ids[:, :-1]))[0]
        nats += [-math.log(p[t, n]) for t, n in enumerate(ids[0, 1:])]
    assert metrics["test_nats"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert metrics["test_perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)

    # Every molecule stands by itself, behind five ends and before one.
    whole = "\n" * 5 + "".join(smiles + "\n" * 5 for smiles in TRAIN)
    ngrams = NGrams(whole, 6)
    nats = [ngrams.nats("\n" * 5 + smiles + "\n")[5:] for smiles in TEST]
    found = metrics["baseline_6-grams_test_nats"]
    assert found == pytest.approx(np.concatenate(nats).mean(), rel=1e-9)
    with Image.open(tmp_path / "examples.png") as picture:
        assert picture.size == (chemistry.SIDE, chemistry.SIDE)  # the new one


def test_molecules_are_drawn_at_their_index(tmp_path):
    """Five in two rows: three panels are empty, the others are not."""
    chemistry.draw(chemistry.parsed(["CCO", "c1ccccc1", "CC#N", "C1CC1", "OCl"]), tmp_path / "p")
    with Image.open(tmp_path / "p") as picture:
        pixels = np.asarray(picture.convert("L"))
    side = chemistry.SIDE
    assert pixels.shape == (2 * side, 4 * side)
    panels = pixels.reshape(2, side, 4, side).swapaxes(1, 2)
    inked = (panels < 255).any(axis=(2, 3))
    assert inked.tolist() == [[True] * 4, [True, False, False, False]]
    chemistry.draw([], tmp_path / "none")
    assert (tmp_path / "none").read_bytes().startswith(b"\x89PNG")


def test_own_molecules(tmp_path):
    """A tenth to be judged by; of what is trained on, what is too long is left out."""
    path = tmp_path / "mine.smi"
    smiles = ["C" * n + "O" * m for n in range(1, 10) for m in range(9)]
    path.write_text("\n\n".join(smiles) + "\n", encoding="utf-8")
    config = dataclasses.replace(RECIPE.tiny(), data=str(path), longest=12)
    data = RECIPE.load(config)
    short = [x for x in smiles if len(x) <= 12]
    assert data.raw["test"] == [x for x in short if place(x) < 0.1]
    assert data.raw["train"] == [x for x in short if place(x) >= 0.1]
    limited = RECIPE.load(dataclasses.replace(config, limit=5))
    assert limited.raw["train"] == data.raw["train"][:5]
    with pytest.raises(ConfigError, match=r"^longest=1: expected molecules up to this length"):
        RECIPE.load(dataclasses.replace(config, longest=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("CC\nCC O\n", r"mine.smi, line 2: expected a SMILES string; found 'CC O', which has"),
        (
            "SMILES\nCC\n",
            r"mine.smi, line 1: expected a SMILES string; found 'SMILES', which RDKit",
        ),
        (
            "CCO\n",
            r"molecules for testing; found none among its 1 molecule\. 90 different",
        ),
    ],
)
def test_files_without_molecules(tmp_path, content, message):
    path = tmp_path / "mine.smi"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        RECIPE.load(dataclasses.replace(RECIPE.tiny(), data=str(path)))


def test_without_rdkit_training_does_not_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ConfigError, match=r"needs rdkit.*`pip install 'kerasrnn\[chemistry\]'"):
        RECIPE.load(RECIPE.tiny())
