"""SavedModels, run by TensorFlow alone."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, parity, saved_model, to_saved_model
from kerasrnn.export.signature import output_names
from tests.catalogue import ROWS
from tests.export.models import batches, every_cell, sequential

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Every cell in one SavedModel."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("cells")
    to_saved_model(every_cell(), folder / "model", check=False)
    return tf.saved_model.load(str(folder / "model"))


def test_cells(served):
    """TensorFlow computes what the model computes."""
    expected = parity.reference(every_cell())
    for x in batches():
        results = served.serve(x)
        assert sorted(results) == sorted(row.name for row in ROWS)
        for name, right in zip(output_names(every_cell()), expected([x]), strict=True):
            np.testing.assert_allclose(results[name], right, atol=1e-6, err_msg=name)


def test_inference_holds_no_random_operation(served):
    graph = served.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert "MatMul" in operations
    assert not {op for op in operations if "Random" in op}


def test_texts(tmp_path):
    """Strings in, and out."""
    vectorize = keras.layers.TextVectorization(vocabulary=["a", "b"], standardize=None)
    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, [kerasrnn.GRU(2)(keras.layers.Embedding(4, 2)(vectorize(texts)))])
    given = np.array(["a b", "ü b b"], dtype=object)
    assert to_saved_model(model, tmp_path / "model", check=[given]).difference < 1e-6


def test_python_is_not_saved(tmp_path):
    """What runs in this process, and would not in another."""

    class InPython(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)

    with pytest.raises(
        ParityError, match=r"the export does not run|TensorFlow without kerasrnn cannot run"
    ):
        to_saved_model(sequential(InPython()), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_the_other_process_ends_on_its_own(tmp_path, monkeypatch):
    """If it dies, that is said, and the next export has a new one."""
    model = sequential(kerasrnn.GRU(2))
    to_saved_model(model, tmp_path / "model")
    saved_model._process().kill()
    saved_model._process().wait()
    with pytest.raises(ParityError, match=r"the separate TensorFlow process ended with -9"):
        to_saved_model(model, tmp_path / "model")
    assert to_saved_model(model, tmp_path / "model").difference < 1e-6
