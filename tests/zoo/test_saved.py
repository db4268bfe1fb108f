"""The trained models of the library: their names, their hashes, loading them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.zoo import saved

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of trained models with one in it."""
    place = tmp_path / "toy"
    place.mkdir()
    model = keras.Sequential([keras.Input((None, 2)), kerasrnn.GRU(3)], name="toy")
    model.save(place / "model.keras")
    (place / "metadata.json").write_text("{}")
    write_sums(place)
    monkeypatch.setattr(saved, "_all", lambda: tmp_path)
    return place, model


def write_sums(place):
    lines = [
        f"{hashlib.sha256((place / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("metadata.json", "model.keras")
    ]
    (place / "SHA256SUMS").write_text("".join(lines))


def test_loading(own):
    place, model = own
    assert zoo.trained() == ["toy"]
    assert zoo.folder("toy") == place
    x = np.random.default_rng(0).standard_normal((2, 4, 2)).astype("float32")
    np.testing.assert_array_equal(zoo.load("toy")(x), model(x))


def test_unknown_names(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = r": expected the name of a trained model: toy\."
    for function in (zoo.load, zoo.folder):
        for name, hint in (
            ("toys", " Did you mean 'toy'\\?"),
            ("TOY", " Did you mean 'toy'\\?"),
            ("speech", ""),
            ("", ""),
            (None, ""),
            (b"toy", ""),
            (3, ""),
            (["toy"], ""),
            ("mine.keras", " To load your own file, use keras.saving.load_model, after .*"),
            ("./toy", " To load your own file.*"),
            (tmp_path / "toy" / "model.keras", " To load your own file.*"),
        ):
            message = f"^name={re.escape(repr(name))}{expected}{hint}$"
            with pytest.raises(ValueError, match=message):
                function(name)


def test_damaged_files(own):
    """A changed bit; a file that is not a model; a missing file."""
    place, _ = own
    content = bytearray((place / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "model.keras").write_bytes(content)
    with pytest.raises(zoo.SavedModelError, match=r"model.keras is damaged: expected the SHA-256"):
        zoo.load("toy")
    (place / "model.keras").write_bytes(b"no zip")
    write_sums(place)
    with pytest.raises(
        zoo.SavedModelError, match=r"model.keras is damaged or was saved by another"
    ):
        zoo.load("toy")
    (place / "metadata.json").unlink()
    with pytest.raises(zoo.SavedModelError, match=r"metadata.json cannot be read: No such file"):
        zoo.load("toy")


def test_the_error_names_a_missing_package(own, monkeypatch):
    """Keras's error would show the vocabulary."""
    pytest.importorskip("sentencepiece")
    place, _ = own
    layer = kerasrnn.SentencePieceVectorization.train(["the cat sat on the mat"] * 20, 12)
    keras.Sequential([keras.Input((), dtype="string"), layer]).save(place / "model.keras")
    write_sums(place)
    assert zoo.load("toy").layers[-1].get_vocabulary() == layer.get_vocabulary()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(zoo.SavedModelError, match=r"keras needs sentencepiece, which is not"):
        zoo.load("toy")


def test_models_are_loaded_in_safe_mode(own):
    place, _ = own
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)]).save(
        place / "model.keras"
    )
    write_sums(place)
    with pytest.raises(zoo.SavedModelError, match=r"unsafe|safe_mode|Lambda"):
        zoo.load("toy")


def test_all_trained_models_in_a_new_process(tmp_path):
    """Their sizes and parameters. All names that are registered with Keras are kerasrnn's.

    A decoded model loads before `kerasrnn.zoo` is imported.
    """
    inputs = zoo.Inputs(zoo.Vectors(3), zoo.Labels(2, 2))
    decoded = zoo.decoded(zoo.many_to_one(inputs, zoo.Classes(3), "gru", 4))
    decoded.save(tmp_path / "model.keras")
    names = zoo.trained()
    assert names
    sizes = [
        file.stat().st_size
        for name in names
        for file in zoo.folder(name).iterdir()
        if file.suffix in (".keras", ".onnx")
    ]
    assert max(sizes) <= 5_000_000
    assert sum(sizes) <= 40_000_000
    code = """
import json, sys, keras
before = set(keras.saving.get_custom_objects())
import kerasrnn
assert keras.saving.load_model(sys.argv[1]).output_shape == (None,)
from kerasrnn import zoo
models = {name: zoo.load(name) for name in zoo.trained()}
parameters = {name: model.count_params() for name, model in models.items()}
translators = [name for name, model in models.items() if isinstance(model, zoo.Translator)]
undecoded = [name for name, model in models.items() if getattr(model, "output_type", None) is None]
registered = sorted(set(keras.saving.get_custom_objects()) - before)
print(json.dumps([registered, parameters, translators, undecoded]))
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.keras"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    registered, parameters, translators, undecoded = json.loads(result.stdout.splitlines()[-1])
    assert undecoded == translators  # `zoo.decoded` takes all others
    assert registered
    assert all(name.startswith("kerasrnn>") for name in registered)
    for name in names:
        assert (
            parameters[name]
            == json.loads((zoo.folder(name) / "metrics.json").read_text())["parameters"]
        )


def test_keras_reads_the_files(tmp_path):
    name = zoo.trained()[0]
    path = shutil.copy(zoo.folder(name) / "model.keras", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert keras.saving.load_model(path).count_params() == zoo.load(name).count_params()
