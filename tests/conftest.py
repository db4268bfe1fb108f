"""Settings that must be in place before Keras is imported."""

import contextlib
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")
# XLA compiles every program here for a few numbers. LLVM's optimizations and the newer code
# generator would take two thirds of that time; XLA's own passes, which decide on loops and copies,
# are the same. TensorFlow and JAX each end the process at a flag that their own XLA does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
# The user's compiled programs are not the tests'.
os.environ["KERASRNN_CACHE"] = "off"
# tf2onnx copies its graph before each of its optimizers, which takes half of the time of an export,
# and skips one that fails. Here it fails the test.
os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")

import hypothesis
import pytest

# A graph is many objects, which Python would look through again and again: a twentieth of the time.
gc.set_threshold(100_000, 50, 50)

# Every example compiles a graph of its own, which takes as long as it takes.
hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=15, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("suite")


def pytest_configure(config):
    """Import Keras before warnings are errors; not in the process that only hands out the tests."""
    if not getattr(config.option, "numprocesses", None):
        import keras  # noqa: F401


def pytest_itemcollected(item):
    """The tests of a file run in one process, and share what one of them builds or traces."""
    if item.config.pluginmanager.hasplugin("xdist") and not item.get_closest_marker("xdist_group"):
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _group(item):
    """The tests that run in one process with a test."""
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker else item.nodeid.partition("::")[0]


@pytest.fixture(autouse=True)
def _fresh_keras():
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def _values_alone(request):
    """PyTorch hands to NumPy no tensor of which a gradient can be asked."""
    import keras

    if keras.config.backend() != "torch" or request.node.get_closest_marker("gradients"):
        yield
        return
    import torch

    with torch.no_grad():
        yield


# In these folders and files, only tests that are marked `traced` trace functions.
OP_BY_OP = (
    "tests/diagnostics/",
    "tests/heads/",
    "tests/losses/test_ctc.py",
    "tests/zoo/",
)


@pytest.fixture(autouse=True)
def _op_by_op(request):
    from tests.measure import op_by_op

    node = request.node
    traced = node.get_closest_marker("traced") or not node.nodeid.startswith(OP_BY_OP)
    with contextlib.nullcontext() if traced else op_by_op():
        yield


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """JAX keeps what it compiled, in memory maps of which a process may have 65,530 on Linux."""
    yield
    import keras

    if keras.config.backend() == "jax":
        import jax

        jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Groups with slow tests come first, so that no process ends long after the others."""
    slow = {_group(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _group(item) not in slow)
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid}: the id contains an address, which differs between processes; "
                "expected ids that are names."
            )
