"""Exports: what their runtimes compute, and what is left behind when they do not agree."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, parity, to_onnx, to_saved_model
from tests.catalogue import BUILT_IN, BY_NAME, ROWS, variant_id
from tests.measure import randomize

pytestmark = pytest.mark.tensorflow
rows = pytest.mark.parametrize("row", ROWS, ids=variant_id)


def batches():
    """Several batch sizes and lengths, padded and not."""
    random = np.random.default_rng(0)
    found = []
    for batch, time, padding in ((1, 1, 0), (3, 7, 3), (5, 12, 0), (2, 4, 2)):
        x = random.standard_normal((batch, time, 3)).astype("float32")
        x[-1, time - padding :] = 0
        found.append(x)
    return found


def masked_model(row, bidirectional=False):
    layer = row.layer(5, return_sequences=True, dropout=0.3, recurrent_dropout=0.3)
    layer = kerasrnn.BidirectionalRNN(layer) if bidirectional else layer
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="steps"),
            keras.layers.Masking(),
            layer,
            row.layer(4),
            keras.layers.Dense(2, name="scores"),
        ]
    )
    randomize(model)
    return model


@pytest.mark.parametrize(
    ("row", "bidirectional"),
    [(row, both) for row in ROWS for both in (False, True) if row in BUILT_IN or not both],
    ids=variant_id,
)
def test_onnx(row, bidirectional, tmp_path):
    """onnxruntime computes what the model computes, by the model's names, at any batch and time."""
    import onnxruntime

    model = masked_model(row, bidirectional)
    report = to_onnx(model, tmp_path / "model.onnx", check=batches())
    assert report.difference < 1e-5
    assert report.batches == 4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [x.name for x in session.get_inputs()] == ["steps"]
    assert [y.name for y in session.get_outputs()] == ["scores"]
    for x in batches():
        (y,) = session.run(["scores"], {"steps": x})
        np.testing.assert_allclose(y, model.predict(x, verbose=0), atol=1e-5)


@rows
def test_saved_model(row, tmp_path):
    """TensorFlow alone computes what the model computes; inference holds no random operation."""
    import tensorflow as tf

    model = masked_model(row)
    report = to_saved_model(model, tmp_path / "model", check=batches())
    assert report.difference < 1e-6
    served = tf.saved_model.load(str(tmp_path / "model"))
    for x in batches():
        np.testing.assert_allclose(served.serve(x), model.predict(x, verbose=0), atol=1e-6)
    graph = served.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert not {op for op in operations if "Random" in op}


def test_constants_that_a_model_closes_over(tmp_path):
    """Normalization keeps its statistics in tensors that are no variables."""
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="steps"),
            keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
            kerasrnn.GRU(4),
        ]
    )
    assert to_onnx(model, tmp_path / "model.onnx", check=batches()).difference < 1e-5


def test_several_inputs_and_outputs(tmp_path):
    steps, start = keras.Input((None, 3), name="steps"), keras.Input((4,), name="start")
    y, h = kerasrnn.GRU(4, return_sequences=True, return_state=True)(steps, initial_state=start)
    model = keras.Model(
        [steps, start],
        [keras.layers.Dense(2, name="each")(y), keras.layers.Dense(1, name="last")(h)],
    )
    random = np.random.default_rng(0)
    check = [
        [random.standard_normal((2, 5, 3)).astype("float32"), np.ones((2, 4), "float32")],
    ]
    report = to_onnx(model, tmp_path / "model.onnx", check=check)
    assert report.difference < 1e-5
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [x.name for x in session.get_inputs()] == ["steps", "start"]
    assert [y.name for y in session.get_outputs()] == ["each", "last"]
    assert to_saved_model(model, tmp_path / "model", check=check).difference < 1e-5


@pytest.mark.parametrize(("export", "name"), [(to_onnx, "m.onnx"), (to_saved_model, "m")])
def test_a_difference_is_an_error_and_leaves_the_old_export(export, name, tmp_path, monkeypatch):
    model = masked_model(BY_NAME["GRU"])
    export(model, tmp_path / name, check=batches())
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    original = parity.largest_difference

    def other_numbers(model, run, batches):
        return original(model, lambda x: [y + 0.01 for y in run(x)], batches)

    monkeypatch.setattr(parity, "largest_difference", other_numbers)
    with pytest.raises(
        ParityError, match=r"differs .* by up to 1\.00e-02; expected at most 1.00e-05"
    ):
        export(model, tmp_path / name, check=batches())
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    with pytest.raises(ParityError):
        export(model, tmp_path / "sub" / name, check=batches())
    assert not list((tmp_path / "sub").iterdir())


def test_largest_difference_sees_what_differs():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="ones")])
    x = np.ones((1, 2), "float32")
    assert parity.largest_difference(model, lambda inputs: [np.full((1, 2), 2.25)], [x]) == 0.25
    with pytest.raises(ParityError, match=r"puts out the shape \(1, 3\), the model \(1, 2\)"):
        parity.largest_difference(model, lambda inputs: [np.zeros((1, 3))], [x])
    with pytest.raises(ParityError, match="NaN in different places"):
        parity.largest_difference(model, lambda inputs: [np.full((1, 2), np.nan)], [x])
    with pytest.raises(ParityError, match="by up to nan"):
        parity.check_difference(float("nan"), 1e-5, "it")


@pytest.mark.parametrize("export", [to_onnx, to_saved_model])
def test_bad_input(export, tmp_path):
    with pytest.raises(ValueError, match=r"check=\[\]: expected at least one batch"):
        export(masked_model(BY_NAME["SimpleRNN"]), tmp_path / "model", check=[])

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="has no symbolic inputs"):
        export(Subclassed(), tmp_path / "model", check=batches())
