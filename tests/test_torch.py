"""Layers and losses, compared with `torch.nn` and its automatic differentiation; and with ncps.

In torch the kernels are transposed, the order of the GRU's gates is r, z, n, and every module has
two biases, of the input part and of the recurrent part.
"""

from dataclasses import dataclass

import keras
import numpy as np
import pytest

import kerasrnn
from tests.losses.test_crossentropy import gradient
from tests.measure import PRECISION, TRAINING, Measured, assert_same, make_mask, measure

WITHOUT_ONEDNN = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)
pytestmark = [pytest.mark.torch, WITHOUT_ONEDNN]

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Peer:
    layer: type[kerasrnn.RNN]
    module: str
    states: int
    gates: tuple[int, ...]
    """The position of each of our gates among torch's."""


PEERS = [
    pytest.param(Peer(kerasrnn.SimpleRNN, "RNN", 1, (0,)), id="SimpleRNN"),
    pytest.param(Peer(kerasrnn.LSTM, "LSTM", 2, (0, 1, 2, 3)), id="LSTM"),
    pytest.param(Peer(kerasrnn.GRU, "GRU", 1, (1, 0, 2)), id="GRU"),
    pytest.param(Peer(kerasrnn.LSTMP, "LSTM", 2, (0, 1, 2, 3)), id="LSTMP"),
]
peers = pytest.mark.parametrize("peer", PEERS)
directions = pytest.mark.parametrize("both", [False, True], ids=["forwards", "both"])
dtypes = pytest.mark.parametrize("dtype", sorted({"float32", PRECISION}))


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its threads would compete with TensorFlow's
    yield torch
    torch.set_num_threads(threads)


def make(peer, both, shape, dtype, **options):
    """Our layer with random weights, inputs and initial states."""
    batch, time, features, units = shape
    units += peer.layer is kerasrnn.LSTMP  # torch's projections are narrower than the cell
    layer = peer.layer(units, return_sequences=True, return_state=True, dtype=dtype, **options)
    if both:
        layer = kerasrnn.Bidirectional(layer, dtype=dtype)
    layer.build((None, None, features))
    random = np.random.default_rng(1)
    layer.set_weights([0.5 * random.standard_normal(w.shape) for w in layer.get_weights()])
    x = random.standard_normal((batch, time, features)).astype(dtype)
    half = layer.forward_layer if both else layer
    shapes = [(batch, *of_state) for of_state in half.cell.state_shapes] * (1 + both)
    return layer, x, [random.standard_normal(of_state).astype(dtype) for of_state in shapes]


def to_torch(torch, peer, layer, features):
    """Torch's module with our layer's weights."""
    both = isinstance(layer, kerasrnn.Bidirectional)
    halves = [layer.forward_layer, layer.backward_layer] if both else [layer]
    dtype = getattr(torch, layer.dtype_policy.name)
    width = getattr(halves[0], "projection_units", 0)
    options = {"proj_size": width} if width else {}
    options |= {"batch_first": True, "bidirectional": both, "dtype": dtype}
    module = getattr(torch.nn, peer.module)(features, halves[0].units, **options)
    with torch.no_grad():
        for half, suffix in zip(halves, ("", "_reverse"), strict=False):
            kernel, recurrent_kernel, bias, *projection = half.get_weights()
            biases = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
            values = [_in_torchs_order(peer, v) for v in (kernel.T, recurrent_kernel.T, *biases)]
            values += [p.T for p in projection]
            for name, value in zip(NAMES, values, strict=False):
                getattr(module, f"{name}_l0{suffix}").copy_(torch.tensor(value))
    return module


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _in_torchs_order(peer, value):
    blocks = np.split(value, len(peer.gates))
    return np.concatenate([blocks[peer.gates.index(n)] for n in range(len(blocks))])


def _in_our_order(peer, value):
    blocks = np.split(value, len(peer.gates))
    return np.concatenate([blocks[n] for n in peer.gates])


def measure_torch(torch, peer, layer, x, states=None, mask=None):
    """The results of `measure` for torch's module, in our layout."""
    both = isinstance(layer, kerasrnn.Bidirectional)
    module = to_torch(torch, peer, layer, x.shape[-1])
    x_tensor = torch.from_numpy(x).requires_grad_()
    start, state_tensors = None, []
    if states is not None:
        state_tensors = [torch.from_numpy(s).requires_grad_() for s in states]
        # Ours: h and c of one direction, then of the other. Torch's: h of both, then c of both.
        kinds = [torch.stack(state_tensors[k :: peer.states]) for k in range(peer.states)]
        start = tuple(kinds) if peer.states == 2 else kinds[0]
    inputs = x_tensor
    if mask is not None:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(
            x_tensor, torch.from_numpy(mask.sum(axis=1)), batch_first=True, enforce_sorted=False
        )
    output, finals = module(inputs, start)
    if mask is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(
            output, batch_first=True, total_length=x.shape[1]
        )
    finals = finals if peer.states == 2 else (finals,)
    outputs = [output, *(kind[n] for n in range(1 + both) for kind in finals)]
    random = np.random.default_rng(7)  # the factors of `measure`
    factors = [torch.from_numpy(random.standard_normal(tuple(y.shape))) for y in outputs]
    loss = sum(torch.sum(y.double() * factor) for y, factor in zip(outputs, factors, strict=True))
    loss.backward()
    d_weights = []
    for suffix in ("", "_reverse")[: 1 + both]:
        kernel, recurrent_kernel, *biases = (
            _in_our_order(peer, getattr(module, f"{name}_l0{suffix}").grad.numpy())
            for name in NAMES[:4]
        )
        bias = np.stack(biases) if peer.layer is kerasrnn.GRU else biases[0]
        d_weights += [kernel.T, recurrent_kernel.T, bias]
        if module.proj_size:
            d_weights.append(getattr(module, f"{NAMES[4]}_l0{suffix}").grad.numpy().T)
    return Measured(
        [y.detach().numpy() for y in outputs],
        x_tensor.grad.numpy(),
        [state.grad.numpy() for state in state_tensors],
        d_weights,
    )


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 9, 4, 5)], ids=str)
@dtypes
@directions
@peers
def test_equals_torch(torch, peer, both, dtype, shape):
    """Outputs, final states and every gradient, from zeros and from given states."""
    layer, x, states = make(peer, both, shape, dtype)
    for start in (None, states):
        expected = measure_torch(torch, peer, layer, x, start)
        assert_same(measure(layer, x, start), expected, TOLERANCE[dtype])


@directions
@peers
def test_right_padding_equals_packed_sequences(torch, peer, both):
    """Torch reads `length` steps, and outputs zeros after them."""
    layer, x, states = make(peer, both, (5, 8, 3, 4), PRECISION, zero_output_for_mask=True)
    mask = make_mask("right", 5, 8)
    assert len(set(mask.sum(axis=1))) > 2
    expected = measure_torch(torch, peer, layer, x, states, mask)
    for training in TRAINING:
        actual = measure(layer, x, states, mask, training)
        assert_same(actual, expected, TOLERANCE[PRECISION])


# The package of the authors of CfC and LTC.


@pytest.fixture(scope="module")
def ncps(torch):
    pytest.importorskip("ncps")
    import ncps.torch
    import ncps.wirings

    return ncps


@pytest.mark.parametrize(
    ("mode", "layers"), [("default", 2), ("no_gate", 1), ("pure", 1), ("default", 0)]
)
def test_cfc_equals_that_of_its_authors(torch, ncps, mode, layers):
    """With the time of every step and row; without it, 1."""
    cell = kerasrnn.CfCCell(
        4, mode=mode, backbone_units=5, backbone_layers=layers, time_column=True, dtype=PRECISION
    )
    known = ncps.torch.CfCCell(3, 4, mode, "tanh", backbone_units=5, backbone_layers=layers)
    known = known.to(getattr(torch, PRECISION))
    cell.build((None, 4))
    given = {name: value.detach().numpy() for name, value in known.named_parameters()}
    heads = ("ff1",) if mode == "pure" else ("ff1", "ff2", "time_a", "time_b")
    dense = [f"backbone.{2 * n}" for n in range(layers)]
    matrices = [(given[f"{name}.weight"].T, given[f"{name}.bias"]) for name in dense]
    of_heads = [(given[f"{name}.weight"].T, given[f"{name}.bias"]) for name in heads]
    matrices.append([np.concatenate(part, axis=-1) for part in zip(*of_heads, strict=True)])
    (first, bias), *others = matrices
    values = [first[:3], first[3:], bias, *(value for pair in others for value in pair)]
    if mode == "pure":
        values += [np.full(4, 0.3), given["A"][0]]
        with torch.no_grad():
            known.w_tau.fill_(0.3)
    cell.set_weights(values)
    random = np.random.default_rng(0)
    h = random.standard_normal((2, 4)).astype(PRECISION)
    expected = torch.from_numpy(h)
    for _ in range(3):
        x, dt = random.standard_normal((2, 3)), random.uniform(0, 3, (2, 1))
        x, dt = x.astype(PRECISION), dt.astype(PRECISION)
        _, (h,) = cell(np.concatenate([x, dt], axis=-1), [h])
        _, expected = known(torch.from_numpy(x), expected, torch.from_numpy(dt))
        np.testing.assert_allclose(h, expected.detach().numpy(), atol=TOLERANCE[PRECISION])


def test_ltc_equals_that_of_its_authors(torch, ncps):
    """Their capacities are shares of the other weights: conductances, leak and current."""
    cell = kerasrnn.LTCCell(4, time_column=True, dtype=PRECISION)
    known = ncps.torch.LTCCell(
        ncps.wirings.FullyConnected(4),
        3,
        input_mapping=None,
        output_mapping=None,
        epsilon=0.0,
        implicit_param_constraints=True,
    ).to(getattr(torch, PRECISION))
    cell.build((None, 4))
    given = {name: value.detach().numpy() for name, value in known.named_parameters()}
    capacity = np.logaddexp(0, given["cm"])

    def share(name):
        """The weight whose softplus is theirs divided by the capacity."""
        return np.log(np.expm1(np.logaddexp(0, given[name]) / capacity))

    values = {
        "kernel": share("sensory_w"),
        "recurrent_kernel": share("w"),
        "bias": np.logaddexp(0, given["gleak"]) / capacity * given["vleak"],
        "leak": share("gleak"),
    }
    for ours, theirs in (("kernel", "sensory_"), ("recurrent", "")):
        for end, name in (("gamma", "sigma"), ("mu", "mu"), ("a", "erev")):
            values[f"{ours}_{end}"] = given[theirs + name]
    cell.set_weights([values[w.name] for w in cell.weights])
    random = np.random.default_rng(0)
    h = random.standard_normal((2, 4)).astype(PRECISION)
    expected = torch.from_numpy(h)
    for dt in (1.0, 0.3, 2.5):
        x = random.standard_normal((2, 3)).astype(PRECISION)
        _, (h,) = cell(np.concatenate([x, np.full((2, 1), dt, PRECISION)], axis=-1), [h])
        expected, _ = known(torch.from_numpy(x), expected, dt)
        np.testing.assert_allclose(h, expected.detach().numpy(), atol=TOLERANCE[PRECISION])


@pytest.mark.tensorflow
def test_learns_as_torch_does(torch):
    """The weights after ten steps of descent on the same batch."""
    layer, x, _ = make(PEERS[2].values[0], False, (3, 9, 4, 5), "float64")
    module = to_torch(torch, PEERS[2].values[0], layer, 4)
    target = np.random.default_rng(2).standard_normal((3, 9, 5))
    inputs = keras.Input((None, 4), dtype="float64")
    model = keras.Model(inputs, layer(inputs)[0])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.fit(x, target, epochs=10, batch_size=3, verbose=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        output, _ = module(torch.from_numpy(x))
        torch.mean((output - torch.from_numpy(target)) ** 2).backward()
        optimizer.step()
    output = module(torch.from_numpy(x))[0].detach().numpy()
    # Keras's loss and learning rate are in float32.
    np.testing.assert_allclose(model.predict(x, verbose=0), output, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sequence_crossentropy_equals_torchs(torch, smoothing):
    """The loss and its gradient; if -100 is padding, torch also smooths over all classes."""
    random = np.random.default_rng(3)
    y = np.where(random.random((5, 7)) < 0.3, -100, random.integers(0, 11, (5, 7)))
    logits = 2 * random.standard_normal((5, 7, 11)).astype("float32")
    tensor = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        tensor.transpose(1, 2), torch.from_numpy(y), ignore_index=-100, label_smoothing=smoothing
    )
    expected.backward()
    loss = kerasrnn.losses.SequenceCrossentropy(smoothing, from_logits=True, ignore_class=-100)
    np.testing.assert_allclose(loss(y, logits), expected.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient(loss, y, logits), tensor.grad.numpy(), atol=1e-7)
