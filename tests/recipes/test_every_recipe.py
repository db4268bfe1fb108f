"""Every recipe is trained, evaluated, applied and exported with the command, on stand-in data.

The training steps are traced in tests/recipes/training, test_catalogue_data.py and
tests/docs/test_getting_started.py.
"""

import csv
import dataclasses
import functools
import io
import json
import math
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import keras
import numpy as np
import pytest
from PIL import Image

from kerasrnn import export, recipes
from kerasrnn.__main__ import main
from kerasrnn.recipes import reverse
from kerasrnn.recipes.base import runs
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.reporting import pictures
from kerasrnn.recipes.tasks import memory
from tests.measure import op_by_op
from tests.recipes import quick, stand_ins

pytestmark = pytest.mark.tensorflow

# Their exports include a model that takes texts.
OF_TEXTS = ("char_lm", "reverse", "word_segmentation")
# The lightest recipe of each task base. What a base does alone is tested on these, as are exports.
ONE_PER_TASK = (
    *OF_TEXTS,
    "bach_chorales",
    "hanzi_structure",
    "japanese_vowels",
    "long_memory",
    "long_range",
    "molecules",
    "movie_sentiment",
)
# Each tuple begins with the one before: pytest sorts by the index of a parameter.
NAMES = (*ONE_PER_TASK, *(name for name in recipes.NAMES if name not in ONE_PER_TASK))
DECODING = ("g2p", "hanzi_structure", "image_captions", "reverse", "translate")
STEPPED = ("bach_chorales", "char_lm", "molecules")
# So that an epoch is one step, or two; the configuration's own size otherwise.
BATCH_SIZES = {
    "bach_chorales": 16,
    "char_lm": 12,
    "g2p": 128,
    "hanzi_structure": 48,
    "image_captions": 30,
    "japanese_vowels": 128,
    "long_range": 32,
    "molecules": 96,
    "movie_sentiment": 128,
    "reverse": 200,
    "translate": 128,
    "word_segmentation": 128,
}

# An untrained decoder seldom generates the end symbol.
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
    if name in ("fashion_mnist", "long_range"):
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
    with (
        stand_ins.served(),
        # With 500 strings, beam search would take longer than everything else.
        mock.patch.object(reverse, "HELD_OUT", 32),
    ):
        yield


def in_its_process(names):
    """The tests of one recipe run in one process, which trains it once."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.fixture(scope="module", params=in_its_process(NAMES))
def trained(request, tmp_path_factory):
    """A recipe that was trained with every option of its tiny configuration on the command line.

    The commands after `train` share one loaded model and one copy of the data.
    """
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    recipe = recipes.load(name)
    config = recipe.tiny()
    # The few steps must lower the loss.
    changes = {"learning_rate": 0.01, "batch_size": BATCH_SIZES.get(name, config.batch_size)}
    options = []
    for key, value in dataclasses.asdict(dataclasses.replace(config, **changes)).items():
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            options.append(option if value else option.replace("--", "--no-"))
        else:
            options.append(f"{option}={value}")
    data_dir = ["--data-dir", str(folder / "tfds")]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(recipe), "load", functools.cache(type(recipe).load))
        patch.setattr(runs, "load_model", functools.cache(runs.load_model))
        with quick.untraced(), redirect_stdout(printed):
            run = ["--output", str(folder / "run")]
            status = main(["train", name, *options, *run, *data_dir, "--progress", "lines"])
        assert status == 0
        yield SimpleNamespace(
            recipe=recipe,
            folder=folder / "run",
            options=["--run", str(folder / "run"), *data_dir],
            printed=printed.getvalue(),
            metrics=json.loads((folder / "run" / "metrics.json").read_text()),
        )


@pytest.fixture
def undrawn(monkeypatch):
    """Evaluations do not draw the pictures that the training has drawn."""
    monkeypatch.setattr(pictures, "save", lambda *arguments: None)
    monkeypatch.setattr(memory, "draw_gradients", lambda *arguments: None)


def printed_metrics(lines):
    """The metrics among printed lines, by the names that they have in files."""
    found = re.findall(r"^([\w -]+): (-?[\d.]+|inf|nan)$", lines, re.MULTILINE)
    return {name.replace(" ", "_"): float(value) for name, value in found}


def test_training_writes_metrics_baselines_logs_and_pictures(trained):
    recipe, folder, metrics = trained.recipe, trained.folder, trained.metrics
    printed = printed_metrics(trained.printed)
    for metric in recipe.card.metrics:
        baselines = [n for n in metrics if re.fullmatch(rf"baseline_.+_{metric}", n)]
        assert baselines, metric
        for name in (metric, *baselines):
            assert math.isfinite(metrics[name]), name
            assert printed[name] == pytest.approx(metrics[name], abs=1e-4)
    with (folder / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in log] == list(range(recipe.tiny().epochs))
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert 1 <= metrics["kept_epoch"] <= len(log)
    pictures = list(folder.glob("*.png"))
    assert folder / "learning_curves.png" in pictures
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"plot:  {path}" in trained.printed
    assert isinstance(json.loads((folder / "metadata.json").read_text()), dict)
    assert list((folder / "tensorboard").rglob("events.*"))


def test_every_task_base_is_represented():
    bases = [
        {type(recipes.load(name)).__mro__[1] for name in names}
        for names in (ONE_PER_TASK, recipes.NAMES)
    ]
    assert bases[0] == bases[1]
    assert len(bases[0]) == len(ONE_PER_TASK)
    for name in set(NAMES) - set(ONE_PER_TASK):
        assert not {"bundle", "evaluate_exported", "exports"} & set(vars(type(recipes.load(name))))


@pytest.mark.parametrize("trained", in_its_process(ONE_PER_TASK), indirect=True)
@pytest.mark.usefixtures("undrawn")
def test_evaluating_prints_what_training_printed(trained, capsys):
    """Of the saved model."""
    assert main(["evaluate", trained.recipe.name, *trained.options]) == 0
    again = printed_metrics(capsys.readouterr().out)
    expected = {
        name: value
        for name, value in trained.metrics.items()
        if name.startswith(("test_", "validation_", "baseline_"))
    }
    assert set(trained.recipe.card.metrics) <= set(expected)
    assert again == pytest.approx(expected, abs=1.1e-4)


def without_expected(printed):
    """The printed text without the true answers of test examples, and the indices of these."""
    pattern = re.compile(r"^(test example (\d+): .*) \(expected .*\)$", re.MULTILINE)
    return pattern.sub(r"\1", printed), [match[2] for match in pattern.finditer(printed)]


def test_predicting(trained, capsys, tmp_path):
    inputs, options, pattern = inputs_of(trained.recipe.name, tmp_path)
    made = tmp_path / "made"
    output = ["--output", str(made)] if trained.recipe.makes else []
    tested = ["2"] if trained.recipe.makes else ["0", "2"]
    arguments = [*inputs, "--test", *tested, *output, *options]
    assert main(["predict", trained.recipe.name, *arguments, *trained.options]) == 0
    rest = capsys.readouterr().out
    if trained.recipe.name != "long_memory":  # whose pattern includes the true answer
        rest, expected = without_expected(rest)
        # A continuation has no true answer.
        assert expected == ([] if trained.recipe.name in STEPPED else tested)
    named = []
    for name in [*inputs, *(f"test example {n}" for n in tested)]:
        match = re.match(rf"{re.escape(name)}: {pattern}\n", rest)
        assert match, rest
        rest = rest[match.end() :]
        named += [path for path in match.groupdict().values() if path is not None]
    assert not rest
    if trained.recipe.makes:
        assert sorted(named) == sorted(map(str, made.iterdir()))
        begins = {".png": b"\x89PNG", ".mid": b"MThd"}
        for path in made.iterdir():
            assert path.read_bytes().startswith(begins[path.suffix])


@pytest.mark.parametrize("trained", in_its_process(ONE_PER_TASK), indirect=True)
@pytest.mark.usefixtures("undrawn")
def test_exporting(trained, capsys, monkeypatch):
    """Each file is checked in its runtime; the eight-bit file is evaluated like the model."""
    name, folder, kind = trained.recipe.name, trained.folder / "export", type(trained.recipe)
    whole_exports, others = kind.exports, {}

    def exports(*arguments):
        """Of a decoder, the first model: docs/export.md exports an encoder and a step."""
        found = dict(whole_exports(*arguments))
        for model in ("encoder", "step") if name in DECODING else ():
            others[model] = found.pop(model)
        return found

    monkeypatch.setattr(kind, "exports", exports)
    assert main(["export", name, "--formats", "onnx", "onnx_int8", *trained.options]) == 0
    printed = capsys.readouterr().out
    written = re.findall(r"^(\w+): (\S+) \(.*: ([\d.e+-]+)$", printed, re.MULTILINE)
    first = "greedy" if name in DECODING else "model"
    models = {first, "step"} if name in STEPPED else {first}
    expected = {("ONNX", str(folder / f"{model}.onnx")) for model in models}
    assert {(format, path) for format, path, _ in written} == expected
    assert all(float(difference) <= 1e-5 for _, _, difference in written)
    assert all(Path(path).is_file() for _, path in expected)
    if name in DECODING:
        encoder, batches = others["encoder"]
        (rows, _), states = np.shape(keras.tree.flatten(batches[0])[0])[:2], encoder(batches[0])
        assert all(len(state) == rows for state in keras.tree.flatten(states))
        assert {f"{name}_next" for name in encoder.output_names if name.startswith("state")} <= set(
            others["step"][0].output_names
        )
    small = re.search(
        rf"^ONNX, int8: {re.escape(str(folder))}/{first}.int8.onnx (.*)$", printed, re.M
    )
    # The molecules that are generated are random; the file does not determine them.
    metrics = trained.recipe.card.metrics if name != "molecules" else ("test_nats",)
    for metric in metrics:
        label = metric.replace("_", " ")
        found = re.search(rf"{label} (\S+) \(ONNX: (\S+)\)", small.group(1))
        # A decoder's file is greedy, but the run's metric may be that of a beam; and an untrained
        # decoder's two likeliest symbols are nearly equal.
        if metric in trained.metrics and name not in DECODING:
            assert float(found.group(2)) == pytest.approx(trained.metrics[metric], abs=2e-4)
        else:
            assert found or metric not in trained.metrics
    vocabulary = meanings(trained)
    assert (folder / "vocabulary.json").exists() == bool(vocabulary)
    if vocabulary:
        assert json.loads((folder / "vocabulary.json").read_text("utf-8")) == vocabulary


@pytest.mark.parametrize("trained", in_its_process(OF_TEXTS), indirect=True)
def test_exporting_what_takes_texts(trained, tmp_path):
    """As a SavedModel; the command writes all of them in command/test_exporting.py."""
    recipe = trained.recipe
    run, config = Run.open(recipe, trained.folder)
    whole = run.load_model()
    model, batches = recipe.exports(whole, recipe.load(config), config)["of_text"]
    if recipe.name != "reverse":
        report = export.to_saved_model(model, tmp_path / "of_text", check=batches)
        assert report.difference <= 1e-5
        return
    # docs/export.md writes a translator as a SavedModel.
    texts, first = batches
    with op_by_op():
        written = model(texts).numpy().tolist()
    expected = whole.explain(texts.tolist(), config.beam, length_penalty=config.length_penalty)
    expected = [translation.text for translation in expected]
    assert [text.decode() for text in written] == expected
    assert len(set(expected)) > 1
    assert first.tolist() == texts[:1].tolist()


def metadata_of(trained):
    return json.loads((trained.folder / "metadata.json").read_text("utf-8"))


def meanings(trained):
    """What the numbers in the exported files mean."""
    model = Run(trained.folder).load_model()
    return trained.recipe.vocabulary(model, metadata_of(trained))


def test_every_class_and_symbol_of_an_export_has_a_name(trained):
    name, found, metadata = trained.recipe.name, meanings(trained), metadata_of(trained)
    if name == "long_memory":
        assert not found
    elif name == "bach_chorales":
        ((keys,),) = [entry.values() for entry in found.values()]
        # A piano's lowest and highest keys, and the tuning pitch.
        assert (len(keys), keys[0], keys[48], keys[-1]) == (88, "A0", "A4", "C8")
    elif name in ("g2p", "reverse", "translate"):
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
