"""SavedModels, run by TensorFlow alone."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, parity, saved_model, to_saved_model
from tests.catalogue import ROWS, variant_id
from tests.export.models import batches, sequential

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_cells(row, tmp_path):
    """TensorFlow computes what the model computes; inference holds no random operation."""
    import tensorflow as tf

    model = sequential(
        keras.layers.Masking(),
        row.layer(4, return_sequences=True, dropout=0.3, recurrent_dropout=0.3, name="scores"),
    )
    to_saved_model(model, tmp_path / "model", check=False)
    served, expected = tf.saved_model.load(str(tmp_path / "model")), parity.reference(model)
    for x in batches():
        np.testing.assert_allclose(served.serve(x), *expected([x]), atol=1e-6)
    graph = served.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for function in graph.library.function for node in function.node_def}
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

    with pytest.raises(ParityError, match=r"the export does not run|TensorFlow alone cannot run"):
        to_saved_model(sequential(InPython()), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_the_other_process_ends_on_its_own(tmp_path, monkeypatch):
    """If it dies, that is said, and the next export has a new one."""
    model = sequential(kerasrnn.GRU(2))
    to_saved_model(model, tmp_path / "model")
    saved_model._process().kill()
    saved_model._process().wait()
    with pytest.raises(ParityError, match=r"TensorFlow, in a separate process, ended with -9"):
        to_saved_model(model, tmp_path / "model")
    assert to_saved_model(model, tmp_path / "model").difference < 1e-6
