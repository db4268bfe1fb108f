"""The numbers on the cards of the trained models, computed again on the real test data.

    make test-models

The data is downloaded, or read from the folder KERASRNN_MIRROR. TFDS stores it in its own folder,
or in TFDS_DATA_DIR.
"""

import json
import os

import pytest

from kerasrnn import recipes, zoo
from kerasrnn.export.onnx import runtime
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.reporting.exporting import compared

pytestmark = [pytest.mark.tensorflow, pytest.mark.models]


@pytest.fixture(scope="module", params=zoo.trained())
def kept(request):
    """A recipe, its trained model's folder, configuration, model and data."""
    recipe = recipes.load(request.param)
    run, config = Run.open(recipe, zoo.folder(request.param))
    data = recipe.load(config, os.environ.get("TFDS_DATA_DIR"))
    return recipe, run, config, zoo.load(request.param), data


def test_the_metrics_of_the_model(kept, tmp_path):
    recipe, run, config, model, data = kept
    expected = run.read_json("metrics.json")
    found = recipe.evaluate(model, data, config, tmp_path)
    for metric in recipe.card.metrics:
        if metric in expected:
            # Another processor may round differently, and draw other strings.
            tolerance = 0.01 if recipe.name == "molecules" else 2e-4
            assert found[metric] == pytest.approx(expected[metric], rel=tolerance), metric
    card = run.path("CARD.md").read_text(encoding="utf-8")
    assert f"seed {config.seed}: {expected['parameters']:,} parameters" in card


def test_the_metrics_of_the_onnx_file(kept):
    """Another processor may round integers differently: hence the tolerance."""
    recipe, run, config, model, data = kept
    exports = run.read_json("exports.json")
    exported, batches = next(iter(recipe.exports(model, data, config).values()))
    path = run.path(exports["file"])
    found = compared(runtime(path, exported), recipe, model, data, config, batches)
    expected = exports["int8" if "int8" in path.name else "float32"]
    for metric in recipe.card.metrics:
        if metric in expected:
            assert found[metric] == pytest.approx(expected[metric], rel=5e-3), metric
    assert exports["difference"] <= 1e-5


def test_the_metadata_of_the_model_is_that_of_its_data(kept):
    _, run, _, _, data = kept
    assert run.read_json("metadata.json") == json.loads(json.dumps(data.metadata))
