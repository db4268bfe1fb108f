"""`recurrent_parametrization="exponential"`, against SciPy's exponentials and their derivatives."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import export
from kerasrnn.cells.exponential import exponential
from tests.catalogue import PROBES, variant_id
from tests.measure import FIRST_BACKEND, PRECISION, TIGHT, measure, op_by_op, randomize
from tests.recurrence.test_states import normal

linalg = pytest.importorskip("scipy.linalg")

UNITS = 3
SQUARE = [row for row in PROBES if row.name != "IndRNN"]


@pytest.fixture(autouse=True)
def _op_by_op(request):
    if request.node.get_closest_marker("traced"):
        yield
        return
    with op_by_op():
        yield


def skew(x: np.ndarray) -> np.ndarray:
    upper = np.triu(x, 1)
    return upper - upper.T


def in_scipy(kernel: np.ndarray) -> np.ndarray:
    blocks = np.split(kernel, kernel.shape[1] // len(kernel), axis=1)
    return np.hstack([linalg.expm(skew(block.astype("float64"))) for block in blocks])


@pytest.mark.torch_backend
@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.3, 3.0, 40.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_exponentials_equal_scipy(scale, n):
    """Of any matrix, not only of a skew-symmetric one, as long as its exponential is not huge."""
    x = scale * normal(4, n, n)
    x = np.stack([skew(each) for each in x]) if scale > 3 else x
    actual = np.asarray(exponential(keras.ops.convert_to_tensor(x, PRECISION)))
    expected = linalg.expm(x.astype("float64"))
    tolerance = 1e-12 if PRECISION == "float64" else 2e-5
    tolerance *= max(1.0, np.abs(expected).max(), scale / 10)  # that of the argument's rounding
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def pair(row, **options):
    """A layer with the option, and one without it that has its kernel."""
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, **options}
    layer = row.layer(UNITS, recurrent_parametrization="exponential", **options)
    plain = row.layer(UNITS, **options)
    for each in (layer, plain):
        each.build((None, None, 2))
    randomize(layer)
    plain.set_weights(layer.get_weights())
    plain.cell.recurrent_kernel.assign(in_scipy(layer.cell.recurrent_kernel.numpy()))
    return layer, plain


@pytest.mark.torch_backend
@pytest.mark.parametrize("row", SQUARE, ids=variant_id)
def test_outputs_and_gradients(row):
    """The gradient of the entries is SciPy's derivative of the exponential, in any direction."""
    layer, plain = pair(row, recurrent_dropout=0.3, seed=1)
    x = normal(4, 5, 2)
    for training in (False, True):
        actual, expected = (measure(each, x, training=training) for each in (layer, plain))
        for a, b in zip(actual.outputs, expected.outputs, strict=True):
            np.testing.assert_allclose(a, b, atol=TIGHT)
        index = [w.name for w in layer.trainable_weights].index("recurrent_kernel")
        kernel = layer.cell.recurrent_kernel.numpy().astype("float64")
        direction = np.random.default_rng(3).standard_normal(kernel.shape)
        gates = kernel.shape[1] // UNITS
        moved = [
            linalg.expm_frechet(skew(block), skew(d), compute_expm=False)
            for block, d in zip(
                np.split(kernel, gates, axis=1), np.split(direction, gates, axis=1), strict=True
            )
        ]
        np.testing.assert_allclose(
            np.sum(actual.d_weights[index] * direction),
            np.sum(expected.d_weights[index] * np.hstack(moved)),
            rtol=1e-8 if FIRST_BACKEND else 1e-3,
        )


@pytest.mark.traced
@pytest.mark.torch_backend
@pytest.mark.gradients
def test_kernels_remain_orthogonal_in_training():
    """Each gate's, after steps that would leave any neighbourhood; with XLA where it is the
    default."""
    layer = kerasrnn.GRU(UNITS, recurrent_parametrization="exponential", weight_drop=0.2, seed=1)
    model = keras.Sequential([keras.Input((5, 2)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    before = layer.cell.recurrent_kernel.numpy().copy()
    model.fit(normal(16, 5, 2), normal(16, UNITS), batch_size=4, epochs=2, verbose=0)
    assert np.abs(layer.cell.recurrent_kernel.numpy() - before).max() > 0.05
    kernel = keras.ops.convert_to_numpy(layer.cell.weights_by_name()["recurrent_kernel"])
    for gate, matrix in layer.cell.recurrent_matrices().items():
        block = keras.ops.convert_to_numpy(matrix)
        np.testing.assert_allclose(block.T @ block, np.eye(UNITS), atol=1e-5, err_msg=gate)
        assert np.linalg.det(block) == pytest.approx(1, abs=1e-5)
    expected = in_scipy(layer.cell.recurrent_kernel.numpy())
    np.testing.assert_allclose(kernel, expected, atol=1e-5)


@pytest.mark.parametrize("units", [6, 7])
@pytest.mark.parametrize("angles", ["henaff", "cayley"])
def test_initial_rotations(units, angles):
    """By angles of the distribution; an odd unit is not rotated."""
    initializer = kerasrnn.RotationInitializer(angles, seed=1)
    drawn = np.asarray(initializer((units, 200 * units)), "float64")
    again = kerasrnn.RotationInitializer.from_config(initializer.get_config())
    np.testing.assert_array_equal(again((units, 200 * units)), drawn)
    blocks = np.stack(np.split(drawn, 200, axis=1))
    at = 2 * np.arange(units // 2)
    found = blocks[:, at, at + 1]
    assert np.count_nonzero(blocks) == np.count_nonzero(found) == found.size
    if angles == "henaff":
        assert found.min() < -3 < 3 < found.max() <= np.pi
        assert abs(found.mean()) < 0.2
    else:
        u = 2 * np.arctan(-found)  # -tan(u / 2) = -sqrt((1 - cos u) / (1 + cos u))
        assert 0 <= u.min() < 0.05
        assert 1.5 < u.max() <= np.pi / 2 + 1e-6
        np.testing.assert_allclose(found, -np.sqrt((1 - np.cos(u)) / (1 + np.cos(u))), atol=1e-5)
    rotation = in_scipy(blocks[0])
    cosines = np.repeat(np.cos(found[0]), 2)
    np.testing.assert_allclose(np.diag(rotation)[: len(cosines)], cosines, atol=1e-6)
    assert units % 2 == 0 or rotation[-1, -1] == 1


@pytest.mark.traced
@pytest.mark.skipif(not FIRST_BACKEND, reason="exports read a TensorFlow graph")
def test_exports(tmp_path):
    """As ONNX's own operator, with the orthogonal kernel; in a loop, that is computed."""
    from tests.export.test_onnx import recurrent_nodes

    inputs = keras.Input((None, 2))
    options = {"recurrent_parametrization": "exponential", "return_sequences": True}
    x = kerasrnn.LSTM(3, **options)(inputs)
    model = keras.Model(inputs, kerasrnn.LSTM(3, zoneout=0.1, **options)(x))
    randomize(model)
    x = normal(2, 4, 2).astype("float32")
    assert export.to_onnx(model, tmp_path / "model.onnx", check=[x]).difference <= 1e-5
    assert recurrent_nodes(tmp_path / "model.onnx") == {"LSTM": 1, "Loop": 1}
    with pytest.raises(ValueError, match=r"Keras has no LSTM with recurrent_parametrization='exp"):
        export.to_keras(model)


@pytest.mark.torch
def test_modules_of_torch_have_the_orthogonal_kernel():
    layer = kerasrnn.GRU(3, recurrent_parametrization="exponential")
    layer.build((None, None, 2))
    module = export.to_torch(layer)
    for block in np.split(module.weight_hh_l0.detach().numpy(), 3):
        np.testing.assert_allclose(block.T @ block, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kerasrnn.LSTM(2, recurrent_parametrization="cayley"),
            "recurrent_parametrization='cayley': expected 'exponential' or None",
        ),
        (
            lambda: kerasrnn.CfC(2, backbone_units=3, recurrent_parametrization="exponential"),
            "the recurrent kernel of CfCCell does not consist of square matrices",
        ),
        (
            lambda: kerasrnn.FeedbackCell(
                kerasrnn.GRUCell(2), 3, recurrent_parametrization="exponential"
            ),
            "recurrent_parametrization: FeedbackCell does not use it",
        ),
        (
            lambda: kerasrnn.RotationInitializer("haar"),
            "angles='haar': expected 'henaff' or 'cayley'",
        ),
        (lambda: kerasrnn.RotationInitializer()((3, 4)), r"shape=\(3, 4\): expected a recurrent"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
