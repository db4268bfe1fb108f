"""Settings that must be in place before Keras is imported."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import keras
import pytest

# A graph is many objects, which Python would look through again and again: a twentieth of the time.
gc.set_threshold(100_000, 50, 50)

# Every example compiles a graph of its own, which takes as long as it takes.
hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=15, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def _values_alone(request):
    """PyTorch hands to NumPy no tensor of which a gradient can be asked."""
    if keras.config.backend() != "torch" or request.node.get_closest_marker("gradients"):
        yield
        return
    import torch

    with torch.no_grad():
        yield


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """JAX keeps what it compiled, in memory maps of which a process may have 65,530 on Linux."""
    yield
    if keras.config.backend() == "jax":
        import jax

        jax.clear_caches()
