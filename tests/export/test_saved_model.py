"""SavedModels, run by TensorFlow alone."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasrnn.export import ParityError, parity, saved_model, to_saved_model
from kerasrnn.export.signature import output_names
from tests.catalogue import PARTS, part_id
from tests.export.models import batches, model_of, sequential

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("part", [PARTS[0], PARTS[-1]], ids=part_id)
def test_cells(part, tmp_path):
    """TensorFlow computes what the model computes, without a random operation.

    The operations of all cells are its own: loops and linear recurrences are enough.
    """
    import tensorflow as tf

    model = model_of(part)
    to_saved_model(model, tmp_path / "model", check=False)
    served, expected = tf.saved_model.load(str(tmp_path / "model")), parity.reference(model)
    for x in batches():
        results = served.serve(x)
        assert sorted(results) == sorted(model.output)
        for name, right in zip(output_names(model), expected([x]), strict=True):
            np.testing.assert_allclose(results[name], right, atol=1e-6, err_msg=name)
    graph = served.signatures["serving_default"].graph.as_graph_def()
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert "MatMul" in operations
    assert not {op for op in operations if "Random" in op}


def test_texts(tmp_path):
    vectorize = keras.layers.TextVectorization(vocabulary=["a", "b"], standardize=None)
    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, keras.layers.Embedding(4, 2)(vectorize(texts)))
    given = np.array(["a b", "ü b b"], dtype=object)
    assert to_saved_model(model, tmp_path / "model", check=[given]).difference < 1e-6


def test_random_numbers_are_the_same_and_the_models_state_is_kept(tmp_path):
    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)

    model = sequential(Noise())
    (state,) = model.variables
    before = np.asarray(state)
    assert to_saved_model(model, tmp_path / "model").difference == 0
    np.testing.assert_array_equal(state, before)


def test_python_is_not_saved(tmp_path):
    """Functions of this process do not run in another one."""

    class InPython(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)

    with pytest.raises(
        ParityError, match=r"the export does not run|TensorFlow without kerasrnn cannot run"
    ):
        to_saved_model(sequential(InPython()), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_the_other_process_is_started_again_if_it_ends(tmp_path, monkeypatch):
    """A short program takes the place of the first process, and ends like one that is killed."""
    model = sequential(keras.layers.Dense(2))
    running, programs = saved_model._process(), []

    def started(program, **options):
        programs.append(program)
        if len(programs) > 1:
            return running
        killed = "import os; input(); os.kill(os.getpid(), 9)"
        return popen([sys.executable, "-c", killed], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(saved_model.subprocess, "Popen", started)
    saved_model._process.cache_clear()
    with pytest.raises(ParityError, match=r"the separate TensorFlow process ended with -9"):
        to_saved_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    assert to_saved_model(model, tmp_path / "model").difference < 1e-6
    assert len(programs) == 2
