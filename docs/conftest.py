"""The examples write their files to a folder of their own, and are computed op by op."""

import pytest

# What Sphinx is given to read; its examples are those of docstrings.
collect_ignore = ["generated"]
# These train for several steps, which takes longer op by op than the tracing.
TRACED = ("diagnostics.md", "heads.md", "sound.md", "training.md")


def pytest_itemcollected(item):
    # TensorFlow warns that input pipelines are not computed op by op.
    item.add_marker(pytest.mark.filterwarnings("ignore:Even though the .tf.config.exp:UserWarning"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _op_by_op(request):
    """Most examples run once, on a few numbers: to trace them would take most of the time."""
    if request.path.name in TRACED:
        yield
        return
    from tests.measure import op_by_op  # imports Keras, which only the tests need

    with op_by_op():
        yield
