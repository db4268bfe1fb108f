"""The nearest orthogonal matrices, against SciPy's polar decomposition."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.constraints import Orthogonal
from tests.measure import PRECISION

linalg = pytest.importorskip("scipy.linalg")

TOLERANCE = 1e-10 if PRECISION == "float64" else 1e-5


def kernel(units, gates, spread):
    """Blocks whose singular values are spread over orders of magnitude."""
    random = np.random.default_rng(units)
    blocks = []
    for _ in range(gates):
        p, q = (np.linalg.qr(random.standard_normal((units, units)))[0] for _ in range(2))
        blocks.append(p @ np.diag(np.logspace(-spread, 1, units)) @ q)
    return np.hstack(blocks).astype(PRECISION)


@pytest.mark.torch_backend
@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("spread", [0, 3])
def test_blocks_equal_polar_factors(gates, spread):
    w = kernel(6, gates, spread)
    actual = np.asarray(Orthogonal()(keras.ops.convert_to_tensor(w)))
    assert actual.dtype == w.dtype
    tolerance = TOLERANCE * 10 ** max(spread - (PRECISION == "float64"), 0)
    for a, block in zip(np.split(actual, gates, 1), np.split(w, gates, 1), strict=True):
        expected, _ = linalg.polar(block.astype("float64"))
        np.testing.assert_allclose(a, expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(a.T @ a, np.eye(6), rtol=0, atol=max(TOLERANCE, 1e-9))


def test_tall_matrices_get_orthonormal_columns():
    w = np.random.default_rng(0).standard_normal((7, 3)).astype(PRECISION)
    expected, _ = linalg.polar(w.astype("float64"))
    np.testing.assert_allclose(Orthogonal()(w), expected, rtol=0, atol=TOLERANCE)


def test_zeros_and_orthogonal_matrices_remain():
    assert not np.any(Orthogonal()(np.zeros((3, 6), "float32")))
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0].astype(PRECISION)
    np.testing.assert_allclose(Orthogonal()(q), q, rtol=0, atol=TOLERANCE)


@pytest.mark.torch_backend
@pytest.mark.gradients
@pytest.mark.parametrize("jit_compile", [False, True])
def test_kernels_are_orthogonal_after_training_steps(jit_compile, tmp_path):
    if jit_compile and keras.config.backend() == "torch":
        pytest.skip("no XLA")
    layer = kerasrnn.LSTM(5, recurrent_constraint=Orthogonal())
    model = keras.Sequential([keras.Input((4, 2)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=jit_compile)
    before = layer.cell.recurrent_kernel.numpy().copy()
    random = np.random.default_rng(0)
    model.fit(
        random.standard_normal((8, 4, 2)),
        random.standard_normal((8, 5)),
        batch_size=4,
        epochs=2,
        verbose=0,
    )
    after = layer.cell.recurrent_kernel.numpy()
    assert np.abs(after - before).max() > 1e-3
    for block in np.split(after, 4, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(5), atol=1e-5)
    if not jit_compile:
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert isinstance(loaded.layers[0].recurrent_constraint, Orthogonal)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"Orthogonal: a weight has the shape \(.*; expected a m"):
        Orthogonal()(np.zeros(shape, "float32"))
