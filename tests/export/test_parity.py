"""The comparison of an export with its model, and the files that may be replaced."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import onnx as onnx_package
import pytest

import kerasrnn
from kerasrnn.export import (
    ParityError,
    kinds,
    parity,
    to_litert,
    to_onnx,
    to_saved_model,
)
from tests.export.models import batches, sequential

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.tensorflow
exporters = pytest.mark.parametrize(
    ("export", "name"),
    [(to_onnx, "m.onnx"), (to_saved_model, "m"), (to_litert, "m.tflite")],
    ids=["onnx", "saved_model", "litert"],
)


@exporters
def test_a_difference_is_an_error_and_leaves_the_old_export(export, name, tmp_path, monkeypatch):
    model = sequential(keras.layers.Dense(2))
    assert export(model, tmp_path / name).batches == 4
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    original = parity.largest_difference

    def other_numbers(run, cases):
        return original(lambda x: [y + 0.01 for y in run(x)], cases)

    monkeypatch.setattr(parity, "largest_difference", other_numbers)
    with pytest.raises(
        ParityError, match=r"differs .* by up to 1\.00e-02; expected at most 1.00e-05"
    ):
        export(model, tmp_path / name)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_differences_of_values_shapes_and_texts():
    x, y = [np.ones((1, 2), "float32")], np.full((1, 2), 0.5)

    def differs(other, y=y):
        return parity.largest_difference(lambda _: [other], [(x, [y])])

    assert differs(np.full((1, 2), 0.75)) == 0.25
    with pytest.raises(ParityError, match=r"outputs the shape \(1, 3\), the model \(1, 2\)"):
        differs(np.zeros((1, 3)))
    with pytest.raises(ParityError, match="NaN in different places"):
        differs(np.full((1, 2), np.nan))
    with pytest.raises(ParityError, match="by up to nan"):
        parity.check_difference(float("nan"), 1e-5, "it")

    def fails(_):
        raise RuntimeError("no such thing")

    with pytest.raises(ParityError, match=r"does not run on inputs \(1, 2\): no such thing"):
        parity.largest_difference(fails, [(x, [y])])
    answers, texts = np.array([b"one", b"two"]), np.array([b"one", b"too"], object)
    assert differs(answers, answers.astype(object)) == 0
    with pytest.raises(ParityError, match="outputs b'two', the model b'too'"):
        differs(answers, texts)


def test_differences_are_relative_to_the_scale_of_the_output():
    """Outputs below 1 have the scale 1; infinities have none."""
    x = [np.ones(1)]

    def differs(one, other):
        one, other = np.array(one), np.array(other)
        return parity.largest_difference(lambda _: [one], [(x, [other])])

    assert differs([1.0, 199.0], [1.0, 200.0]) == 0.005
    assert differs([1.5], [0.5]) == 1.0
    assert differs([np.inf, 3.0], [np.inf, 4.0]) == 0.25
    assert differs([np.inf], [-np.inf]) == np.inf
    assert differs([5.0], [np.inf]) == np.inf


def test_default_tolerance_follows_the_coarsest_precision():
    """Eight times the gap between 1 and the next number: 2 ** -10, and 2 ** -7."""
    layers = [keras.layers.Dense(2), keras.layers.Dense(2, dtype="mixed_float16")]
    assert parity.default_tolerance(sequential(layers[0])) == 1e-5
    assert parity.default_tolerance(sequential(*layers)) == 8 * 2**-10
    layers.append(kerasrnn.GRU(2, dtype="mixed_bfloat16"))
    assert parity.default_tolerance(sequential(*layers)) == 8 * 2**-7


def test_random_inputs_are_valid_for_the_model():
    """Ids within an Embedding's range, sequences masked as in Masking, images of known size."""
    ids = keras.Input((None,), dtype="int32")
    frames, images = keras.Input((None, 3)), keras.Input((2, 4))
    flags = keras.Input((None,), dtype="bool")
    x = keras.layers.Embedding(3, 2, mask_zero=True)(ids)
    masked = keras.layers.Masking(mask_value=-1.0)(frames)
    y = keras.layers.Concatenate()([x, masked, keras.ops.cast(flags, "float32")[..., None]])
    model = keras.Model([ids, frames, images, flags], [kerasrnn.GRU(2)(y), images])
    found = [inputs for inputs, _ in parity.random_cases(model)]
    shapes = [batch[1].shape for batch in found]
    assert shapes == [(1, 1, 3), (3, 7, 3), (5, 12, 3), (4, 9, 3)]
    for numbers, steps, pictures, truths in found:
        assert numbers.min() >= 0
        assert numbers.max() < 3
        assert pictures.shape[1:] == (2, 4)
        assert truths.dtype == bool
        # Masked at the same steps, so that the comparison includes masks.
        np.testing.assert_array_equal((steps == -1).all(-1), numbers == 0)
    assert [bool((steps == -1).any()) for _, steps, _, _ in found] == [False, True, False, True]
    unmasked = parity.random_cases(model, masked=False)
    assert all(inputs[0].min() > 0 for inputs, _ in unmasked)


def test_sizes_that_the_model_does_not_support_are_skipped():
    model = sequential(keras.layers.Conv1D(2, 5), kerasrnn.GRU(2))
    shapes = [x.shape[1] for (x,), _ in parity.random_cases(model)]
    assert shapes == [7, 12, 9]
    longest = 12 * 1024
    model = sequential(keras.layers.Conv1D(2, longest + 1), keras.layers.GlobalMaxPooling1D())
    with pytest.raises(ValueError, match=r"check: the model fails on random inputs \("):
        parity.random_cases(model)
    x = np.zeros((1, longest + 1, 3), "float32")
    ((inputs, y),) = parity._cases(model, [x])  # given batches alone
    np.testing.assert_array_equal(inputs[0], x)
    np.testing.assert_allclose(y[0], [model.layers[0].bias.numpy()], rtol=1e-6)


def test_longer_sequences_are_tried_for_models_that_need_them():
    """A frame has 100 samples."""
    model = sequential(kerasrnn.LogMel(4, 4000), kerasrnn.GRU(2), shape=(None,))
    assert [x.shape for (x,), _ in parity.random_cases(model)] == [(3, 448), (5, 768), (4, 576)]


def test_not_checked(tmp_path):
    report = to_onnx(sequential(kerasrnn.SimpleRNN(2)), tmp_path / "m.onnx", check=False)
    assert (report.difference, report.batches) == (None, 0)
    assert report.bytes == (tmp_path / "m.onnx").stat().st_size


@exporters
def test_bad_input(export, name, tmp_path):
    with pytest.raises(ValueError, match=r"check=\[\]: expected at least one batch"):
        export(sequential(kerasrnn.SimpleRNN(2)), tmp_path / name, check=[])

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="has no symbolic inputs"):
        export(Subclassed(), tmp_path / name, check=batches())
    stateful = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3)), kerasrnn.LSTM(2, stateful=True, name="remembers")]
    )
    with pytest.raises(ValueError, match=r"remembers: stateful=True: .* expected False, or"):
        export(stateful, tmp_path / name)
    texts = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            keras.layers.TextVectorization(vocabulary=["a", "b"]),
        ]
    )
    with pytest.raises(ValueError, match=r"check=True: strings cannot be generated"):
        export(texts, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("export", "package", "extra"),
    [(to_onnx, "onnxruntime", "onnx"), (to_litert, "ai_edge_litert", "litert")],
)
def test_a_missing_runtime_is_an_error(export, package, extra, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(
        ModuleNotFoundError,
        match=rf"needs {package}; install it with `pip install 'kerasrnn\[{extra}",
    ):
        export(sequential(kerasrnn.GRU(2)), tmp_path / "m")
    assert not list(tmp_path.iterdir())


@exporters
def test_only_exports_are_replaced(export, name, tmp_path, monkeypatch):
    """Other folders, files and links are refused before anything is computed."""
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "project" / "setup.py").write_text("setup()")
    (tmp_path / "notes").write_text("remember")
    (tmp_path / "link").symlink_to("project")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(parity, "reference", lambda model: pytest.fail("it was computed"))
    monkeypatch.chdir(tmp_path / "project" / "src")
    model = sequential(kerasrnn.GRU(2))
    for path in ("project", "notes", "link"):
        with pytest.raises(FileExistsError, match=rf"path='.*{path}': there is .*; expected a new"):
            export(model, tmp_path / path)
    for path in (".", "..", "/"):
        with pytest.raises(FileExistsError, match=r"there is (the working|a) folder"):
            export(model, path)
    with pytest.raises(OSError, match="notes cannot be written: Not a directory"):
        export(model, tmp_path / "notes" / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "notes").read_text() == "remember"


def test_kinds_of_files(tmp_path):
    """An ONNX file of another program is no export, nor is a SavedModel with other files."""
    for file in sorted((ROOT / "saved_models").glob("*/*.onnx")):
        assert kinds.ONNX_FILE.recognizes(file), file
    other = onnx_package.helper.make_model(
        onnx_package.helper.make_graph([], "g", [], []), producer_name="pytorch"
    )
    (tmp_path / "m.onnx").write_bytes(other.SerializeToString())
    assert not kinds.ONNX_FILE.recognizes(tmp_path / "m.onnx")
    assert not kinds.LITERT_FILE.recognizes(tmp_path / "m.onnx")
    model = sequential(keras.layers.Dense(2))
    to_saved_model(model, tmp_path / "m", check=False)
    assert kinds.SAVED_MODEL.recognizes(tmp_path / "m")
    for mine in ("README.md", "variables/notes", "assets.extra"):
        (tmp_path / "m" / mine).write_text("mine")
        with pytest.raises(FileExistsError, match="a folder with other contents than a SavedModel"):
            to_saved_model(model, tmp_path / "m", check=False)
        (tmp_path / "m" / mine).unlink()
    to_saved_model(model, tmp_path / "m", check=False)
