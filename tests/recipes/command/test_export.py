"""`kerasrnn export`: files are written together, or not at all."""

import json

import keras
import pytest

from kerasrnn import files, zoo
from kerasrnn.__main__ import main
from kerasrnn.export import Report
from kerasrnn.export.formats import FORMATS, Format
from kerasrnn.files import OccupiedError
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.reporting import exporting

pytestmark = pytest.mark.tensorflow


def test_the_output_folder_is_checked_before_the_model_is_loaded(there, monkeypatch, capsys):
    monkeypatch.setattr(Run, "load_model", lambda self: pytest.fail("the model was loaded"))
    (there / "file").write_text("mine")
    for command in (["predict", "g2p", "keras", "--zoo"], ["export", "g2p", "--zoo"]):
        assert main([*command, "--output", "file"]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"kerasrnn: {there / 'file'} cannot be written: Not a directory.")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    for command in (["predict", "g2p", "keras", "--zoo"], ["export", "g2p", "--zoo"]):
        assert main([*command, "--output", "below"]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"kerasrnn: {there} cannot be written: Permission denied.")
    assert [path.name for path in there.iterdir()] == ["file"]


def test_an_export_replaces_earlier_exports(recipe, tmp_path, monkeypatch):
    """Other files of these names are an error, before the first one is written."""
    model = keras.Sequential([keras.Input((None, 12)), keras.layers.Dense(2, name="y")])
    monkeypatch.setattr(type(recipe), "exports", lambda *arguments: {"model": (model, True)})
    words = {"y": {"classes": ["a", "b"]}}
    monkeypatch.setattr(type(recipe), "vocabulary", lambda *arguments: words)

    def export(formats):
        data = recipe.load(None)
        return exporting.export(recipe, model, data, recipe.Config(), tmp_path, formats)

    for _ in range(2):
        export(["onnx"])
    vocabulary = tmp_path / "vocabulary.json"
    assert json.loads(vocabulary.read_text()) == words
    before = (tmp_path / "model.onnx").stat().st_mtime_ns
    for mine in ('{"name": "package"}', '{"y": {"classes": [], "notes": 1}}', "[1]", "text"):
        vocabulary.write_text(mine)
        with pytest.raises(OccupiedError, match=r"vocabulary.json': there is a file of \d+ bytes"):
            export(["onnx"])
        assert vocabulary.read_text() == mine
    vocabulary.unlink()
    (tmp_path / "model.tflite").write_text("mine")
    with pytest.raises(
        OccupiedError, match=r"model.tflite': there is a file of 4 bytes that is no"
    ):
        export(["onnx", "litert"])
    assert (tmp_path / "model.tflite").read_text() == "mine"
    assert not vocabulary.exists()
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("fails", [ValueError, KeyboardInterrupt])
def test_an_export_is_complete_or_leaves_no_files(fails, recipe, tmp_path, monkeypatch):
    """Also in a new folder, and in place of an earlier export."""
    model = keras.Sequential([keras.Input((None, 12)), keras.layers.Dense(2, name="y")])
    models = dict.fromkeys(("one", "two"), (model, True))
    monkeypatch.setattr(type(recipe), "exports", lambda *arguments: models)
    words = {"y": {"classes": ["a", "b"]}}
    monkeypatch.setattr(type(recipe), "vocabulary", lambda *arguments: words)
    folder, data = tmp_path / "new" / "deep", recipe.load(None)

    def export():
        formats = ["saved_model", "litert"]
        return exporting.export(recipe, model, data, recipe.Config(), folder, formats)

    def to_saved_model(model, path, **options):
        path.mkdir()
        (path / "saved_model.pb").write_text(str(words))
        return Report(path, "SavedModel", 8, 0, None)

    def to_litert(model, path, **options):
        path.write_bytes(b"....TFL3" + str(words).encode())
        return Report(path, "LiteRT", 8, 0, None)

    def to_failing_litert(model, path, **options):
        if path.name.startswith("two"):
            raise fails
        return to_litert(model, path)

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    monkeypatch.setattr("kerasrnn.export.saved_model.to_saved_model", to_saved_model)
    monkeypatch.setattr("kerasrnn.export.litert.to_litert", to_failing_litert)
    with pytest.raises(fails):
        export()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("kerasrnn.export.litert.to_litert", to_litert)
    lines = export()
    written = files()
    names = {"vocabulary.json", "one.saved_model", "two.saved_model", "one.tflite", "two.tflite"}
    assert {path.name for path in folder.iterdir()} == names
    assert all(f"{folder / name}" in "\n".join(lines) for name in names)
    words["y"]["classes"].append("c")
    monkeypatch.setattr("kerasrnn.export.litert.to_litert", to_failing_litert)
    with pytest.raises(fails):
        export()
    assert files() == written
    monkeypatch.setattr("kerasrnn.export.litert.to_litert", to_litert)
    export()
    assert files().keys() == written.keys()
    assert all(files()[path] != written[path] for path in written)
    assert json.loads((folder / "vocabulary.json").read_text())["y"]["classes"] == ["a", "b", "c"]


def to_count(model, path, check, tolerance):
    """Write a model's number of parameters."""
    path.write_text(str(model.count_params()))
    return Report(path, "count", path.stat().st_size, 0, None)


def test_a_format_needs_only_a_row(recipe, tmp_path, monkeypatch, capsys):
    """The command accepts it, writes it for each model of a recipe, and lists it in its help."""
    row = Format(
        name="count",
        suffix="count",
        kind=files.Kind("a count", lambda path: path.read_text().isdigit()),
        exporter=f"{__name__}:to_count",
        remark="is a number",
    )
    monkeypatch.setitem(FORMATS, "count", row)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    help = " ".join(capsys.readouterr().out.split())
    assert "saved_model, onnx, onnx_int8, litert, count" in help
    assert "count is a number" in help
    monkeypatch.chdir(tmp_path)
    command = ["export", "japanese_vowels", "--zoo", "--formats", "count", "--output", "here"]
    assert main(command) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("count: ")]
    assert line == "count: here/model.count (0 KiB)"
    count = zoo.load("japanese_vowels").count_params()
    assert (tmp_path / "here" / "model.count").read_text() == str(count)
