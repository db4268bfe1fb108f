"""Settings that must be in place before Keras is imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import keras
import pytest

# Every example compiles a graph of its own, which takes JAX several times as long.
EXAMPLES = 25 if keras.config.backend() == "tensorflow" else 15

# Compiling a graph takes as long as it takes; the examples are what counts.
hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=EXAMPLES, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
