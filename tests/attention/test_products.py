"""`SourceProduct`: the product and its adjoints."""

import numpy as np
import pytest

from kerasrnn.attention.products import SourceProduct
from tests.measure import PRECISION, TIGHT

TIME, POSITIONS, WIDTH = 3, 4, 5


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_with_a_source(transposed, batch):
    """`c = w V`, or `e = q K^T`; for one step and for several."""
    random = np.random.default_rng(0)
    kernel = random.standard_normal((batch, POSITIONS, WIDTH)).astype(PRECISION)
    into, out = (WIDTH, POSITIONS) if transposed else (POSITIONS, WIDTH)
    v = random.standard_normal((TIME, batch, into)).astype(PRECISION)
    d_r = random.standard_normal((TIME, batch, out)).astype(PRECISION)
    product = SourceProduct(kernel, transposed)
    matrices = np.swapaxes(kernel, 1, 2) if transposed else kernel
    d_kernel = np.zeros_like(kernel)
    for n, matrix in enumerate(matrices):
        several = product(np.swapaxes(v, 0, 1))[n]
        for t in range(TIME):
            r = v[t, n] @ matrix
            np.testing.assert_allclose(product(v[t])[n], r, atol=TIGHT)
            np.testing.assert_allclose(several[t], r, atol=TIGHT)
            d_v = product.adjoint(d_r[t])[n]
            np.testing.assert_allclose(d_v, matrix @ d_r[t, n], atol=TIGHT)
            d_matrix = np.outer(v[t, n], d_r[t, n])
            d_kernel[n] += d_matrix.T if transposed else d_matrix
    np.testing.assert_allclose(product.weight_gradients(v, d_r), d_kernel, atol=TIGHT)
