"""The whole life of a run of every recipe, tiny, on made-up data: as a user types it."""

import csv
import dataclasses
import io
import json
import math
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerasrnn import export, recipes
from kerasrnn.__main__ import main
from kerasrnn.recipes import reverse
from kerasrnn.recipes.base.runs import Run
from kerasrnn.training.step import TrainingModel
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow

# Their exports include a model that takes texts.
OF_TEXTS = ("char_lm", "reverse", "word_segmentation")
# The lightest recipe of each task base. What the base and the command do without anything of the
# recipe's is tested on these.
ONE_PER_TASK = (
    *OF_TEXTS,
    "bach_chorales",
    "hanzi_structure",
    "japanese_vowels",
    "long_memory",
    "molecules",
    "movie_sentiment",
)
# Each tuple begins with the one before: pytest sorts by the place of a parameter.
NAMES = (*ONE_PER_TASK, *(name for name in recipes.NAMES if name not in ONE_PER_TASK))

# What has learned nothing seldom ends.
ATTENTION = r"(\n    cut after \d+ symbols, without an end)?\n    (?P<made>\S+\.png)"
PERCENTAGES = r"[\w /-]+: [\d.]+%, [\w /-]+: [\d.]+%(, [\w /-]+: [\d.]+%)?"


def picture(folder, name, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    Image.fromarray(pixels).save(folder / name)
    return str(folder / name)


def inputs_of(name, folder):
    """What a user may give `predict`: the inputs, more options, and a pattern of each answer."""
    if name == "bach_chorales":
        # Networks that have learned nothing put half of the keys into every chord.
        options = ["--length", "3", "--temperature", "0.05"]
        return ["48 55 64 C5, 50 57"], options, r"(?P<midi>\S+\.mid), (?P<made>\S+\.png)"
    if name == "char_lm":
        prompt = r"(The cat|漢t\n|Tom had a cat\.\n|A fat cat sat\.\n)"
        return ["The cat", "漢t\n"], ["--length", "5"], rf"\n{prompt}(.|\n){{5}}"
    if name == "fashion_mnist":
        return [picture(folder, "shirt.png", (28, 28))], [], PERCENTAGES
    if name == "g2p":
        return ["Bad", "kiss me"], ["--beam", "1"], rf"[A-Z ]*{ATTENTION}"
    if name == "hanzi_structure":
        pictures = [picture(folder, "wide.png", (50, 90)), picture(folder, "rgba.png", (9, 9, 4))]
        return pictures, [], r"[⿰⿱女子木口 ]*"
    if name == "image_captions":
        return [picture(folder, "photograph.jpg", (70, 50, 3))], [], r"[a-z ]*"
    if name == "japanese_vowels":
        np.savetxt(folder / "one.csv", np.ones((9, 12)), delimiter=",")
        return [str(folder / "one.csv")], [], PERCENTAGES
    if name == "long_memory":
        return [], [], r"-?\d\.\d+ \(expected \d\.\d+\)"
    if name == "molecules":
        lines = r"(\n    [()CO]+(  \(invalid\))?){3}"
        pattern = rf"\d of 3 are valid molecules(, drawn in (?P<made>\S+\.png))?{lines}"
        return ["CC(", "C"], ["--count", "3"], pattern
    if name == "movie_sentiment":
        return ["A good film!", "?! film", "plain " * 60], [], PERCENTAGES
    if name == "reverse":
        return ["stressed"], ["--beam", "3"], rf"[a-z]*{ATTENTION}"
    if name == "translate":
        options = ["--beam", "1", "--copy-unknown"]
        return ["Die Kuh sieht die Maus."], options, rf"[\w. ]*{ATTENTION}"
    assert name == "word_segmentation"
    return ["我喜欢看电视。", "abc我"], [], r"[\w。，]+( [\w。，]+)*"


@pytest.fixture(scope="module", autouse=True)
def _data():
    with pytest.MonkeyPatch.context() as patch, stand_ins.served():
        # That would take a third of the time; test_training.py trains with compiled loops.
        patch.setattr(TrainingModel, "compile_loops", lambda self: None)
        # Of 500 strings, a beam search takes longer than everything else.
        patch.setattr(reverse, "HELD_OUT", 32)
        yield


def in_its_process(names):
    """The tests of one recipe run in one process, which trains it once."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.fixture(scope="module", params=in_its_process(NAMES))
def trained(request, tmp_path_factory):
    """A recipe, trained; every option that its tiny configuration has is written out."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = recipes.load(request.param)
    # The few steps are to be seen in the loss.
    config = dataclasses.replace(recipe.tiny(), learning_rate=0.01)
    options = []
    for name, value in dataclasses.asdict(config).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            options.append(option if value else option.replace("--", "--no-"))
        else:
            options.append(f"{option}={value}")
    data_dir = ["--data-dir", str(folder / "tfds")]
    printed = io.StringIO()
    with redirect_stdout(printed):
        run = ["--output", str(folder / "run")]
        status = main(["train", recipe.name, *options, *run, *data_dir, "--progress", "lines"])
    assert status == 0
    return SimpleNamespace(
        recipe=recipe,
        folder=folder / "run",
        options=["--run", str(folder / "run"), *data_dir],
        printed=printed.getvalue(),
        metrics=json.loads((folder / "run" / "metrics.json").read_text()),
    )


def said(metrics):
    """The metrics among printed lines, by the names that they have in files."""
    lines = re.findall(r"^([\w -]+): (-?[\d.]+|inf|nan)$", metrics, re.MULTILINE)
    return {name.replace(" ", "_"): float(value) for name, value in lines}


def test_training_leaves_metrics_baselines_logs_and_pictures(trained):
    recipe, folder, metrics = trained.recipe, trained.folder, trained.metrics
    for metric in recipe.card.metrics:
        baselines = [n for n in metrics if re.fullmatch(rf"baseline_.+_{metric}", n)]
        assert baselines, metric
        for name in (metric, *baselines):
            assert math.isfinite(metrics[name]), name
            assert said(trained.printed)[name] == pytest.approx(metrics[name], abs=1e-4)
    with (folder / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in log] == list(range(recipe.tiny().epochs))
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert 1 <= metrics["kept_epoch"] <= len(log)
    pictures = list(folder.glob("*.png"))
    assert folder / "learning_curves.png" in pictures
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"picture: {path}" in trained.printed
    assert isinstance(json.loads((folder / "metadata.json").read_text()), dict)
    assert list((folder / "tensorboard").rglob("events.*"))


def test_every_task_has_one():
    bases = [
        {type(recipes.load(name)).__mro__[1] for name in names}
        for names in (ONE_PER_TASK, recipes.NAMES)
    ]
    assert bases[0] == bases[1]
    assert len(bases[0]) == len(ONE_PER_TASK)


@pytest.mark.parametrize("trained", in_its_process(ONE_PER_TASK), indirect=True)
def test_evaluating_says_what_training_said(trained, capsys):
    """`train` has evaluated every recipe; here a model that was saved is evaluated again."""
    assert main(["evaluate", trained.recipe.name, *trained.options]) == 0
    again = said(capsys.readouterr().out)
    judged = {
        name: value
        for name, value in trained.metrics.items()
        if name.startswith(("test_", "validation_", "baseline_"))
    }
    assert set(trained.recipe.card.metrics) <= set(judged)
    assert again == pytest.approx(judged, abs=1.1e-4)


def test_predicting(trained, capsys, tmp_path):
    inputs, options, pattern = inputs_of(trained.recipe.name, tmp_path)
    made = tmp_path / "made"
    output = ["--output", str(made)] if trained.recipe.makes else []
    asked = [*inputs, "--test", "0", "2", *output, *options]
    assert main(["predict", trained.recipe.name, *asked, *trained.options]) == 0
    rest = capsys.readouterr().out
    said = []
    for name in [*inputs, "test example 0", "test example 2"]:
        match = re.match(rf"{re.escape(name)}: {pattern}\n", rest)
        assert match, rest
        rest = rest[match.end() :]
        said += [path for path in match.groupdict().values() if path is not None]
    assert not rest
    if trained.recipe.makes:
        assert sorted(said) == sorted(map(str, made.iterdir()))
        begins = {".png": b"\x89PNG", ".mid": b"MThd"}
        for path in made.iterdir():
            assert path.read_bytes().startswith(begins[path.suffix])


DECODING = ("g2p", "hanzi_structure", "image_captions", "reverse", "translate")
WITH_STEPS = (*DECODING, "bach_chorales", "char_lm", "molecules")


def test_exporting(trained, capsys):
    """Checked, each by its runtime; the file in eight bits is judged as the Keras model is."""
    name = trained.recipe.name
    assert main(["export", name, "--formats", "onnx", "onnx_int8", *trained.options]) == 0
    printed = capsys.readouterr().out
    written = re.findall(r"^(\w+): (\S+) \(.*: ([\d.e+-]+)$", printed, re.MULTILINE)
    folder = trained.folder / "export"
    first = "greedy" if name in DECODING else "model"
    models = {first, *(["encoder"] if name in DECODING else [])}
    models |= {"step"} if name in WITH_STEPS else set()
    expected = {("ONNX", str(folder / f"{model}.onnx")) for model in models}
    assert {(kind, path) for kind, path, _ in written} == expected
    assert all(float(difference) <= 1e-5 for _, _, difference in written)
    assert all(Path(path).is_file() for _, path in expected)
    small = re.search(
        rf"^ONNX, int8: {re.escape(str(folder))}/{first}.int8.onnx (.*)$", printed, re.M
    )
    # Of molecules, what is written is a matter of chance, which is no part of the file.
    metrics = trained.recipe.card.metrics if name != "molecules" else ("test_nats",)
    for metric in metrics:
        label = metric.replace("_", " ")
        found = re.search(rf"{label} (\S+) \(ONNX: (\S+)\)", small.group(1))
        # Greedily, where the run's figure is of a beam; and networks that learned nothing hardly
        # know which symbol is the likeliest.
        if metric in trained.metrics and name not in DECODING:
            assert float(found.group(2)) == pytest.approx(trained.metrics[metric], abs=2e-4)
        else:
            assert found or metric not in trained.metrics


@pytest.mark.parametrize("trained", in_its_process(OF_TEXTS), indirect=True)
def test_exporting_what_takes_texts(trained, tmp_path):
    """As a SavedModel; the command writes all of them in command/test_command.py."""
    recipe = trained.recipe
    run, config = Run.open(recipe, trained.folder)
    exports = recipe.exports(run.load_model(), recipe.load(config), config)
    model, batches = exports["of_text"]
    report = export.to_saved_model(model, tmp_path / "of_text", check=batches)
    assert report.difference <= 1e-5


def test_what_the_numbers_mean(trained):
    """Every class has a name, every symbol that is read a number."""
    path = trained.folder / "export" / "vocabulary.json"
    name = trained.recipe.name
    if name == "long_memory":
        assert not path.exists()
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if name == "bach_chorales":
        ((keys,),) = [entry.values() for entry in found.values()]
        # A piano's lowest and highest, and the one that orchestras tune to.
        assert (len(keys), keys[0], keys[48], keys[-1]) == (88, "A0", "A4", "C8")
        return
    metadata = json.loads((trained.folder / "metadata.json").read_text(encoding="utf-8"))
    if name in ("g2p", "reverse", "translate"):
        assert found["source"]["symbols"][2:] == metadata["source"]["symbols"]
        assert found["sequences"]["symbols"][2:-2] == metadata["target"]["symbols"]
        assert found["sequences"]["end"] == len(metadata["target"]["symbols"]) + 2
    elif name in ("hanzi_structure", "image_captions"):
        assert found["sequences"]["symbols"][2:] == metadata["vocabulary"]
        assert found["sequences"]["symbols"][found["sequences"]["start"]] == "[START]"
    else:
        if "classes" in metadata:
            assert {"classes": metadata["classes"]} in found.values()
        if name in ("char_lm", "word_segmentation"):
            assert found["sequence"]["symbols"][2:] == metadata["vocabulary"]
