"""Cards say what the runs' files say."""

import dataclasses
import json

import pytest

from kerasrnn import recipes
from kerasrnn.recipes.base.card import Published
from kerasrnn.recipes.base.runs import RunError
from kerasrnn.recipes.reporting import cards


def write_run(folder, seed, accuracy, recipe="japanese_vowels", **options):
    folder.mkdir()
    config = {"units": 8, "seed": seed, **options}
    (folder / "config.json").write_text(json.dumps({"recipe": recipe, "config": config}))
    metrics = {"test_accuracy": accuracy, "seconds": 10 + seed, "parameters": 1234}
    metrics["baseline_majority_test_accuracy"] = 0.25
    (folder / "metrics.json").write_text(json.dumps(metrics))
    environment = {
        "processors": 2,
        "devices": ["CPU"],
        "python": "3.11",
        "versions": {"keras": "3"},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def test_a_card_shows_mean_range_baselines_and_published_results(tmp_path, monkeypatch):
    recipe = recipes.load("japanese_vowels")
    peers = (Published("other", "a paper", {"test_accuracy": 0.8}),)
    monkeypatch.setattr(type(recipe), "card", dataclasses.replace(recipe.card, published=peers))
    folders = {
        "LSTM": [write_run(tmp_path / f"l{n}", n, a) for n, a in enumerate((0.9, 0.95, 0.97))],
        "GRU": [write_run(tmp_path / f"g{n}", n, 0.5, cell="gru") for n in range(3)],
    }
    results = cards.collect(recipe, folders)
    text = cards.card(recipe, results, "the command")
    read_back = json.loads(json.dumps(results, sort_keys=True))
    assert cards.card(recipe, read_back, "the command") == text
    drawn = cards.card(recipe, results, "the command", {"curves.png": "What is seen"})
    assert drawn == text + "\n![What is seen](curves.png)\n\nWhat is seen.\n"
    assert "| LSTM | 0.9400 (0.9000 to 0.9700) | 1,234 | 11 |" in text
    assert "| GRU | 0.5000 (0.5000 to 0.5000) | 1,234 | 11 |" in text
    assert "| baseline: majority | 0.2500 | | |" in text
    assert "| published: other (a paper) | 0.8000 | | |" in text
    assert "Mean (range) over the seeds 0, 1, 2. Common to all: units 8." in text
    assert (
        "Measured with `the command japanese_vowels --seeds 3 --variants LSTM GRU` on 2 processors"
    ) in text


def test_a_card_names_the_commands_that_measured_it(tmp_path):
    recipe = recipes.load("japanese_vowels")
    first, *others = recipe.variants
    folders = {name: [write_run(tmp_path / name, 0, 0.9)] for name in recipe.variants}
    text = cards.card(recipe, cards.collect(recipe, folders), "train")
    assert "Measured with `train japanese_vowels --seeds 1` on" in text
    folders[first].append(write_run(tmp_path / "second", 1, 0.9))
    text = cards.card(recipe, cards.collect(recipe, folders), "train")
    quoted = " ".join(f"'{name}'" if " " in name else name for name in others)
    assert (
        f"Measured with `train japanese_vowels --seeds 2 --variants {first}` and "
        f"`train japanese_vowels --seeds 1 --variants {quoted}` on"
    ) in text


def test_runs_of_one_variant_differ_only_in_their_seeds(tmp_path):
    folders = {
        "LSTM": [write_run(tmp_path / "a", 0, 0.9), write_run(tmp_path / "b", 1, 0.9, epochs=3)]
    }
    with pytest.raises(RunError, match="differ in more than their seeds"):
        cards.collect(recipes.load("japanese_vowels"), folders)


def test_baselines_of_several_tasks_have_a_row_each(tmp_path):
    recipe = recipes.load("long_memory")
    losses = {
        "adding, T=200, GRU": 0.1,
        "adding, T=600, GRU": 0.1,
        "adding, T=600, LSTM": 0.1,
        "copy, T=1000, GRU": 0.02,
        "copy, T=1000, LSTM": 0.02,
    }
    folders = {}
    for name, loss in losses.items():
        folders[name] = [write_run(tmp_path / name, 0, 0.0, "long_memory")]
        path = folders[name][0] / "metrics.json"
        metrics = {**json.loads(path.read_text()), "test_loss": 0.0}
        path.write_text(json.dumps({**metrics, "baseline_no_memory_test_loss": loss}))
    text = cards.card(recipe, cards.collect(recipe, folders), "train")
    found = [line for line in text.splitlines() if line.startswith("| baseline")]
    assert found == [
        "| baseline: no memory (adding) | 0.1000 | | |",
        "| baseline: no memory (copy, T=1000) | 0.0200 | | |",
    ]


def keep(folder, recipe, stem, serves="int8", **config):
    """What `benchmarks.quality.publish_model` leaves, but the model."""
    folder.mkdir()
    metrics = dict.fromkeys(recipe.card.metrics, 0.9)
    files = {
        "config.json": {"recipe": recipe.name, "config": {"seed": 3, **config}},
        "metrics.json": {**metrics, "parameters": 1234, "seconds": 56.7},
        "environment.json": {"started": "2026-01-02T03:04:05+00:00", "commit": "0123456789"},
        "exports.json": {
            "file": f"{stem}.int8.onnx" if serves == "int8" else f"{stem}.onnx",
            "difference": 2e-7,
            "float32": {**metrics, "bytes": 4000, "seconds": 0.002},
            "int8": {**dict.fromkeys(recipe.card.metrics, 0.8), "bytes": 1000, "seconds": 0.001},
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.keras").write_bytes(b"x" * 77)
    return folder


def test_the_card_of_a_trained_model(tmp_path):
    recipe = recipes.load("japanese_vowels")
    text = cards.trained(recipe, keep(tmp_path / "v", recipe, "model", bidirectional=True))
    assert "'Bidirectional LSTM', seed 3: 1,234 parameters, trained in 57 s by" in text
    assert "`kerasrnn train japanese_vowels --seed 3 --bidirectional`" in text
    assert "(2026-01-02, commit 0123456)" in text
    assert "| model.keras | 77 | 0.9000 |  |" in text
    assert "| model.onnx (not kept) | 4,000 | 0.9000 | 2.00 |" in text
    assert "| model.int8.onnx | 1,000 | 0.8000 | 1.00 |" in text
    assert "by at most 2.0e-07." in text
    assert f"Known limits: {recipe.card.limits}" in text
    recipe = recipes.load("reverse")
    text = cards.trained(recipe, keep(tmp_path / "r", recipe, "greedy", "float32", beam=4))
    assert "| greedy.onnx | 4,000 |" in text
    assert "| greedy.int8.onnx (not kept) | 1,000 |" in text
    assert "greedily, whereas the Keras model was evaluated with a beam of 4; the" in text
