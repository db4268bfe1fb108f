"""The table of formats. tests/recipes/command adds a row."""

import keras
import numpy as np
import pytest

from kerasrnn import export
from kerasrnn.export.formats import FORMATS, Format
from kerasrnn.files import Kind
from tests.export.models import sequential

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_writes_its_kind(name, tmp_path):
    """The exporter is public; the runtime, if any, computes the model's outputs."""
    row = FORMATS[name]
    row.require()
    model = sequential(keras.layers.Dense(64), keras.layers.Dense(40))
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype("float32")
    module, _, function = row.exporter.partition(":")
    assert module.startswith("kerasrnn.export.")
    assert function in export.__all__
    written = model
    if row.source:
        assert list(FORMATS).index(row.source) < list(FORMATS).index(name)
        assert FORMATS[row.source].runtime
        assert row.runtime
        source = tmp_path / f"model.{FORMATS[row.source].suffix}"
        written = FORMATS[row.source].write(model, source).path
    report = row.write(written, tmp_path / f"model.{row.suffix}")
    assert report.path.is_dir() == row.kind.is_folder
    assert row.kind.recognizes(report.path)
    if row.runtime:
        expected = np.asarray(model(x))
        (found,) = row.load(report.path, model)([x])
        # Eight bits round a weight by a 254th of the largest one at most.
        atol = (0.02 if row.source else 1e-5) * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_missing_packages_are_an_error(monkeypatch):
    """Those of the source, too."""
    row = Format(
        name="of_nothing",
        suffix="x",
        kind=Kind("x"),
        exporter="none:none",
        packages=("no_such_package",),
        extra="nothing",
    )
    message = r"needs no_such_package; install it with `pip install 'kerasrnn\[nothing\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        row.require()
    monkeypatch.setitem(FORMATS, "of_nothing", row)
    derived = Format(
        name="b", suffix="b", kind=Kind("b"), exporter="none:none", source="of_nothing"
    )
    with pytest.raises(ModuleNotFoundError, match=message):
        derived.require()
