"""Layers to and from PyTorch, beside the transfer that tests/test_torch.py has of its own."""

import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, from_torch, matrices, to_torch
from tests import test_torch

pytestmark = [pytest.mark.torch, pytest.mark.tensorflow, test_torch.WITHOUT_ONEDNN]


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@test_torch.directions
@test_torch.peers
def test_there_and_back(torch, peer, both):
    layer, x, _ = test_torch.make(peer, both, (2, 5, 3, 4), "float32")
    module = to_torch(layer)
    expected = test_torch.to_torch(torch, peer, layer, 3).state_dict()
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value, expected[name])
    back = from_torch(module)
    for a, b in zip(back.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(back(x), layer(x)[0], atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.3),
        lambda nn: nn.GRU(3, 4, num_layers=3, batch_first=True),
        lambda nn: nn.GRU(3, 4, bias=False),
        lambda nn: nn.RNN(3, 4, nonlinearity="relu", bidirectional=True),
        lambda nn: nn.LSTM(3, 4, proj_size=2, num_layers=2, bidirectional=True),
        lambda nn: nn.LSTM(3, 4, proj_size=3, bias=False),
    ],
    ids=["deep, both", "deep", "no bias", "relu", "projected, deep, both", "projected"],
)
def test_modules(torch, make):
    """Depth, directions, options, and the same numbers; torch's training mode is left as it was."""
    torch.manual_seed(0)
    module = make(torch.nn)
    layer = from_torch(module)
    assert module.training
    back = to_torch(layer)
    x = torch.randn(2, 6, 3)
    module.eval(), back.eval()
    with torch.no_grad():
        y, _ = module(x if module.batch_first else x.swapaxes(0, 1))
        y = y if module.batch_first else y.swapaxes(0, 1)
        np.testing.assert_allclose(layer(x.numpy()), y, atol=1e-6)
        np.testing.assert_allclose(back(x)[0], y, atol=1e-6)
    assert (back.num_layers, back.bidirectional) == (module.num_layers, module.bidirectional)
    assert (back.dropout, back.bias) == (module.dropout, module.bias)
    assert back.proj_size == module.proj_size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.MGU(4, name="it"), "it: torch.nn has no module with a MGU"),
        (lambda: kerasrnn.GRU(4, reset_after=False, name="it"), "reset_after=False"),
        (lambda: kerasrnn.LSTM(4, activation="relu"), "these activations"),
        (
            lambda: kerasrnn.LSTMP(4, projection_units=4),
            "projection_units=4; expected less than units=4",
        ),
        (lambda: kerasrnn.LSTM(4, go_backwards=True), "only a backward direction"),
        (
            lambda: kerasrnn.Bidirectional(kerasrnn.LSTM(4), merge_mode="sum"),
            "merged directions; expected merge_mode='concat'",
        ),
        (
            lambda: kerasrnn.StackedRNN([kerasrnn.GRU(4), kerasrnn.GRU(5)]),
            "layers with different units or biases",
        ),
        (
            lambda: kerasrnn.StackedRNN([kerasrnn.GRU(3), kerasrnn.GRU(3)], residual=True),
            "residual connections",
        ),
        (
            lambda: kerasrnn.StackedRNN([kerasrnn.Bidirectional(kerasrnn.GRU(4)), kerasrnn.GRU(4)]),
            "both directions in only some layers",
        ),
        (lambda: kerasrnn.StackedRNN([kerasrnn.GRU(4), kerasrnn.LSTM(4)]), "a GRU"),
    ],
)
def test_what_torch_has_not(torch, make, message):
    layer = make()
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match=f"torch.nn has no module with .*{message}|{message}"):
        to_torch(layer)


def test_bad_input(torch):
    with pytest.raises(ValueError, match=r"expected one of torch.nn.RNN, LSTM, GRU"):
        from_torch(torch.nn.Linear(3, 4))
    with pytest.raises(ValueError, match="it: not built"):
        to_torch(kerasrnn.LSTM(4, name="it"))


def test_a_difference_is_an_error(torch, monkeypatch):
    monkeypatch.setattr(matrices, "fill", lambda *_: None)
    with pytest.raises(ParityError, match=r"torch\.nn\.LSTM differs"):
        from_torch(torch.nn.LSTM(3, 4))
