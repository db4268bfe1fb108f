"""LSTM and GRU on cuDNN's kernels, on a machine without a GPU.

The kernels are replaced: on TensorFlow by NVIDIA's equations, on JAX by its own reference, on
PyTorch by what the same module runs on a CPU. What is left to a GPU is whether cuDNN computes what
it documents.
"""

import contextlib
import inspect
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence import cudnn
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
)

BACKEND = keras.config.backend()
LAYERS = [kerasrnn.LSTM, kerasrnn.GRU]
ON_GPU = LAYERS[:1] if BACKEND == "jax" else LAYERS
everywhere = pytest.mark.torch_backend
X = np.random.default_rng(0).standard_normal((8, 5, 3)).astype(PRECISION)
STATES = np.random.default_rng(1).standard_normal((2, 8, 4)).astype(PRECISION)


def built(cls, units=4, dtype=PRECISION, **options):
    layer = cls(units, dtype=dtype, **options)
    layer.build(X.shape)
    randomize(layer)
    return layer


def equations(np, mode, x, states, params, lengths):
    """NVIDIA's equations (cudnnRNNMode_t), with its order of the parameters: of each gate W, then
    of each R, then b_W, then b_R; the gates are i, f, c', o and r, i, h'. `np` is NumPy, or an
    equal of it that is differentiated."""
    h, *c = states
    features, units, gates = x.shape[-1], h.shape[-1], 4 if mode == "lstm" else 3
    sizes = [*[units * features] * gates, *[units * units] * gates, *[units] * 2 * gates]
    ends = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
    assert params.shape == (ends[-1],)
    parts = [params[a:b] for a, b in itertools.pairwise(ends)]
    w = [np.reshape(part, (units, features)) for part in parts[:gates]]
    r = [np.reshape(part, (units, units)) for part in parts[gates : 2 * gates]]
    b_w, b_r = parts[2 * gates : 3 * gates], parts[3 * gates :]

    def sigmoid(p):
        return 1 / (1 + np.exp(-p))

    outputs = []
    for t in range(x.shape[1]):
        of_x = [np.matmul(x[:, t], np.transpose(w[k])) + b_w[k] for k in range(gates)]
        of_h = [np.matmul(h, np.transpose(r[k])) + b_r[k] for k in range(gates)]
        if mode == "lstm":
            i, f, o = (sigmoid(of_x[k] + of_h[k]) for k in (0, 1, 3))
            new_c = f * c[0] + i * np.tanh(of_x[2] + of_h[2])
            new = [o * np.tanh(new_c), new_c]
        else:
            reset, i = (sigmoid(of_x[k] + of_h[k]) for k in (0, 1))
            new = [(1 - i) * np.tanh(of_x[2] + reset * of_h[2]) + i * h]
        runs = t < lengths[:, None]
        outputs.append(np.where(runs, new[0], np.zeros_like(new[0])))
        h, *c = (np.where(runs, n, old) for n, old in zip(new, [h, *c], strict=True))
    return np.stack(outputs, 1), [h, *c]


@pytest.fixture
def gpu(monkeypatch):
    """The backend reports a GPU."""
    if FIRST_BACKEND:
        import tensorflow as tf

        def with_gpu(function, device):
            return lambda kind=None: (
                [device] if kind == "GPU" else function(kind) + [device] * (kind is None)
            )

        for kind in ("logical", "physical"):
            name = f"list_{kind}_devices"
            device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
            monkeypatch.setattr(tf.config, name, with_gpu(getattr(tf.config, name), device))
        build = {"is_cuda_build": True, "is_rocm_build": False}
        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
    elif BACKEND == "torch":
        import torch

        monkeypatch.setattr(
            torch.backends.cudnn, "is_acceptable", lambda x: x.dtype != torch.bfloat16
        )
    else:
        import jax

        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        devices = jax.devices
        monkeypatch.setattr(
            jax, "devices", lambda backend=None: ["0"] if backend == "cuda" else devices(backend)
        )


@pytest.fixture
def kernel(gpu, monkeypatch):
    """A simulated kernel; returns the arguments of its calls."""
    calls = []

    def on_tensorflow(**arguments):
        calls.append(arguments)
        mode, lengths = arguments["rnn_mode"], arguments["sequence_lengths"]
        assert arguments["is_training"]
        assert not arguments["time_major"]
        assert not hasattr(lengths, "numpy") or np.all(lengths >= 1)
        states = [arguments[f"input_{name}"][:, 0] for name in "hc"[: 2 if mode == "lstm" else 1]]
        x, params = arguments["input"], arguments["params"]
        outputs, finals = equations(ops, mode, x, states, params, lengths)
        finals = [final[:, None] for final in finals]
        return outputs, finals[0], finals[-1], None, None

    def on_jax(x, h, c, weights, lengths, **options):
        signature.bind(x, h, c, weights, lengths, **options)
        calls.append({"x": x, "h": h, "c": c, "weights": weights, **options})
        sizes = {name: options[name] for name in options if name != "dropout"}
        unpacked = rnn.unpack_lstm_weights(weights, **sizes)
        return rnn.lstm_ref(x, h, c, *unpacked, lengths, *options.values())

    if FIRST_BACKEND:
        import tensorflow as tf

        monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", on_tensorflow)
    elif BACKEND == "torch":
        import torch

        functional_call = torch.func.functional_call

        def on_torch(*arguments):
            calls.append(arguments)
            return functional_call(*arguments)

        monkeypatch.setattr(torch.func, "functional_call", on_torch)
    else:
        from jax.experimental import rnn

        signature = inspect.signature(rnn.lstm)
        monkeypatch.setattr(rnn, "lstm", on_jax)
    return calls


@everywhere
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("cls", [*LAYERS, kerasrnn.CoupledLSTM])
def test_layout_of_the_weights(cls, use_bias):
    layer = built(cls, use_bias=use_bias, return_sequences=True, return_state=True)
    params = cudnn.parameters(layer.cell, layer.cell.weights_by_name())
    states = list(STATES[: len(layer.cell.state_names)])
    found, finals = equations(
        np,
        layer.cell.onnx_operator.name.lower(),
        X,
        states,
        ops.convert_to_numpy(params),
        np.full(8, 5),
    )
    expected = layer(X, initial_state=states)
    for a, b in zip([found, *finals], expected, strict=True):
        np.testing.assert_allclose(a, ops.convert_to_numpy(b), rtol=0, atol=TIGHT)


WAYS = {
    "outputs": {"return_sequences": True},
    "last output": {},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "last of backwards, zeros": {"go_backwards": True, "zero_output_for_mask": True},
    "no bias": {"return_sequences": True, "use_bias": False},
}


@everywhere
@pytest.mark.parametrize(
    ("cls", "way"),
    [*itertools.product(ON_GPU, WAYS), (kerasrnn.CoupledLSTM, "outputs")],
)
def test_results_and_gradients(cls, way, kernel):
    """They are those of kerasrnn's own loop, with and without masks of every kind."""
    layer = built(cls, return_state=True, **WAYS[way])
    states = list(STATES[: len(layer.cell.state_names)])
    with op_by_op():
        for kind in ("none", "right", "mixed"):
            arguments = (X, states, make_mask(kind, *X.shape[:2]))
            layer.use_cudnn = True
            found = measure(layer, *arguments)
            layer.use_cudnn = False
            count = len(kernel)
            assert_same(found, measure(layer, *arguments), TIGHT)
            assert len(kernel) == count
    assert kernel


@everywhere
@pytest.mark.parametrize("cls", ON_GPU)
def test_dropout_of_the_inputs(cls, kernel):
    with op_by_op():
        found = [
            measure(built(cls, dropout=0.5, seed=1, use_cudnn=use), X, training=True)
            for use in (True, False)
        ]
    assert_same(*found, TIGHT)
    assert len(kernel) == 1


@contextlib.contextmanager
def eagerly():
    """The kernel receives values, not the tensors of a graph."""
    with contextlib.ExitStack() as stack:
        if not FIRST_BACKEND:
            import jax

            stack.enter_context(jax.disable_jit())
        stack.enter_context(op_by_op())
        yield


@pytest.mark.skipif(BACKEND == "torch", reason="Keras looks at the device of the tensors there")
@pytest.mark.parametrize("cls", ON_GPU)
def test_the_kernel_receives_what_keras_passes(cls, kernel):
    """Keras's own layer, on the same simulated kernel, with a mask that both support."""
    ours = built(cls, use_cudnn=True, return_sequences=True, dtype="float32")
    keras_own = getattr(keras.layers, cls.__name__)(4, use_cudnn=True, return_sequences=True)
    keras_own.build(X.shape)
    keras_own.set_weights(ours.get_weights())
    x, valid = X.astype("float32"), make_mask("right", *X.shape[:2])
    if not FIRST_BACKEND:
        valid[:] = True
    mask = valid if FIRST_BACKEND else None
    with eagerly():
        outputs = [ops.convert_to_numpy(layer(x, mask=mask)) for layer in (ours, keras_own)]
    np.testing.assert_allclose(*(y[valid] for y in outputs), atol=1e-6)
    of_ours, of_keras = kernel
    assert of_ours.keys() == of_keras.keys()
    matrices = ours.cell.kernel.shape[0] * ours.cell.kernel.shape[1] + 4 * ours.cell.kernel.shape[1]
    for name, value in of_keras.items():
        if name == "params":  # Keras's LSTM has its bias in b_R
            np.testing.assert_array_equal(of_ours[name][:matrices], value[:matrices])
        elif name == "input":
            np.testing.assert_array_equal(of_ours[name][valid], value[valid])
        elif name != "input_c" or cls is kerasrnn.LSTM:
            np.testing.assert_array_equal(of_ours[name], value)


class Doubled(kerasrnn.LSTMCell):
    def update(self, a, r, states, weights):
        return super().update(2 * a, r, states, weights)


class DoubledLSTM(Recurrent, cell_class=Doubled, after_loop=("use_cudnn",)):
    """An LSTM with other equations."""


REFUSED = {
    "other equations": (DoubledLSTM, {}, "equations are not those of cuDNN's"),
    "activation": (kerasrnn.LSTM, {"activation": "relu"}, "are sigmoid and relu"),
    "gates": (kerasrnn.LSTM, {"recurrent_activation": "hard_sigmoid"}, "are hard_sigmoid and tanh"),
    "GRU": (kerasrnn.GRU, {"reset_after": False}, "reset_after=False"),
    "unrolled": (kerasrnn.LSTM, {"unroll": True}, "unroll=True"),
    "checkpoints": (kerasrnn.LSTM, {"checkpoint_every": 2}, "checkpoint_every=2"),
    "truncated": (kerasrnn.LSTM, {"truncate_every": 2}, "truncate_every=2"),
    "compiled": (kerasrnn.LSTM, {"jit_compile": True}, "jit_compile=True compiles"),
    "recurrent dropout": (kerasrnn.LSTM, {"recurrent_dropout": 0.5}, "recurrent_dropout"),
    "implementation": (kerasrnn.LSTM, {"dropout": 0.5, "implementation": 1}, "implementation=1"),
    "bfloat16": (kerasrnn.LSTM, {"dtype": "mixed_bfloat16"}, "bfloat16"),
    "no rows": (kerasrnn.LSTM, {}, "no rows"),
}


@everywhere
@pytest.mark.parametrize("case", REFUSED)
def test_refused_layers(case, kernel):
    """What cuDNN cannot run is an error with `use_cudnn=True`, and runs in the loop with "auto"."""
    cls, options, reason = REFUSED[case]
    x, training = X[:0] if case == "no rows" else X, "dropout" in str(options)
    with op_by_op():
        with pytest.raises(ValueError, match=f"use_cudnn=True: .*{reason}.*expected 'auto'"):
            built(cls, use_cudnn=True, **{"dtype": "float32", **options})(x, training=training)
        if BACKEND != "torch" or case != "compiled":  # where no loop is compiled
            built(cls, **{"dtype": "float32", **options})(x, training=training)
    assert not kernel


def without_device(layer, monkeypatch):
    if FIRST_BACKEND:
        import tensorflow as tf

        monkeypatch.setattr(tf.config, "list_logical_devices", lambda *_: [])
    elif BACKEND == "torch":
        import torch

        monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda _: False)
    else:
        import jax

        monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    layer(X)


def without_cuda(layer, monkeypatch):
    if FIRST_BACKEND:
        import tensorflow as tf

        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": False})
    else:
        import jax

        def no_cuda(kind=None):
            raise RuntimeError("Unknown backend cuda")

        monkeypatch.setattr(jax, "devices", no_cuda)
    layer(X)


def on_the_cpu(layer, monkeypatch):
    with keras.device("cpu:0"):
        layer(X)


def on_the_cpu_in_a_graph(layer, monkeypatch):
    import tensorflow as tf

    @tf.function(autograph=False)
    def function(x):
        with tf.device("/CPU:0"):
            return layer(x)

    function(X)


def compiled_by_xla(layer, monkeypatch):
    import tensorflow as tf

    tf.function(layer, jit_compile=True)(X)


def in_nested_tapes(layer, monkeypatch):
    import tensorflow as tf

    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        for tape in (outer, inner):
            tape.watch(x := tf.constant(X))
        layer(x)


def in_forward_mode(layer, monkeypatch):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(x := tf.constant(X), tf.ones_like(x)):
        layer(x)


def in_bfloat16_products(layer, monkeypatch):
    import jax

    with jax.default_matmul_precision("bfloat16"):
        layer(X)


def as_gru(layer, monkeypatch):
    built(kerasrnn.GRU, use_cudnn=layer.use_cudnn)(X)


NO_GPU = "TensorFlow has no GPU|JAX has no CUDA device|no torch.float32 on the device cpu"
PLACES = {
    "tensorflow": {
        without_device: NO_GPU,
        without_cuda: "built without CUDA",
        on_the_cpu: "placed on a CPU",
        on_the_cpu_in_a_graph: "placed on a CPU",
        compiled_by_xla: "XLA compiles the surrounding function",
        in_nested_tapes: "differentiated again",
        in_forward_mode: "no forward mode",
    },
    "jax": {
        without_device: NO_GPU,
        without_cuda: NO_GPU,
        on_the_cpu: "jax_default_device is",
        in_bfloat16_products: "jax_default_matmul_precision is 'bfloat16'",
        as_gru: "only cuDNN's LSTM",
    },
    "torch": {without_device: NO_GPU},
}[BACKEND]


@everywhere
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_refused_places(place, kernel, monkeypatch):
    layer = built(kerasrnn.LSTM, use_cudnn=True)
    with pytest.raises(ValueError, match=f"use_cudnn=True: .*({PLACES[place]})"):
        place(layer, monkeypatch)
    layer.use_cudnn = "auto"
    place(layer, monkeypatch)
    assert not kernel


@everywhere
@pytest.mark.parametrize("cls", LAYERS)
def test_without_a_gpu(cls):
    """As with Keras's layers, `use_cudnn=True` is an error of the call."""
    layer = cls(4, use_cudnn=True)
    with pytest.raises(ValueError, match=f"use_cudnn=True: .*({NO_GPU})"):
        layer(X)
    layer.use_cudnn = "auto"
    assert layer.supports_jit
    assert tuple(layer(X).shape) == (8, 4)


@everywhere
@pytest.mark.parametrize("cls", ON_GPU)
def test_layers_of_layers(cls, kernel):
    """Each inner layer has the `use_cudnn` of the given one, which no configuration saves."""
    for use_cudnn, calls in ((True, 2), (False, 0)):
        bidirectional = kerasrnn.Bidirectional(cls(4, use_cudnn=use_cudnn, return_sequences=True))
        stack = kerasrnn.StackedRNN([cls(4, use_cudnn=use_cudnn) for _ in range(2)])
        for layer in (bidirectional, stack):
            kernel.clear()
            with op_by_op():
                layer(X)
            assert len(kernel) == calls


@pytest.mark.tensorflow
@pytest.mark.parametrize("cls", LAYERS)
def test_operations_of_tensorflow(cls, gpu):
    """The graph, whose operations only a GPU has, with everything about its shapes unknown."""
    import tensorflow as tf

    layer = built(cls, return_sequences=True, return_state=True, dtype="float32")

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), "bool")]
    )
    def train(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, mask=mask, training=True)
            loss = sum(map(tf.reduce_sum, results))
        return results, tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])

    function = train.get_concrete_function()
    kinds = [op.type for op in function.graph.get_operations()]
    assert kinds.count("CudnnRNNV3") == kinds.count("CudnnRNNBackpropV3") == 1
    assert not {"While", "StatelessWhile", "StatefulPartitionedCall"} & {*kinds}
    results, (d_x, *_) = function.structured_outputs
    shapes = [tuple(y.shape) for y in results]
    assert shapes == [(None, None, 4)] + [(None, 4)] * len(layer.cell.state_names)
    assert tuple(d_x.shape) == (None, None, 3)


@pytest.mark.tensorflow
def test_a_graph_without_rows(kernel):
    import tensorflow as tf

    layer = built(kerasrnn.LSTM, return_sequences=True, return_state=True, use_cudnn=True)

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 3), PRECISION)])
    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, mask=tf.ones(tf.shape(x)[:2], "bool"))
            loss = sum(map(tf.reduce_sum, results))
        return [*results, tape.gradient(loss, x)]

    assert [tuple(y.shape) for y in function(X[:0])] == [(0, 5, 4), (0, 4), (0, 4), (0, 5, 3)]
    found = function(X)
    layer.use_cudnn = False
    for a, b in zip(found[:3], layer(X), strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


@pytest.mark.tensorflow
def test_training_of_a_model(kernel):
    """By default, Keras compiles no model with XLA that contains a layer for cuDNN."""
    trained = []
    for use_cudnn in ("auto", False):
        layer = built(kerasrnn.LSTM, use_cudnn=use_cudnn, dtype="float32")
        model = keras.Sequential([keras.Input((5, 3)), layer])
        model.compile("sgd", "mse", jit_compile="auto")
        assert model.jit_compile is (use_cudnn is False)
        model.jit_compile = False
        for _ in range(2):
            model.train_on_batch(X, STATES[0])
        trained.append(model.get_weights())
    assert len(kernel) == 1
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for options in ({"jit_compile": True}, {"unroll": True}, {"activation": "relu"}):
        assert kerasrnn.LSTM(4, **options).supports_jit
    both = kerasrnn.Bidirectional(kerasrnn.LSTM(4, use_cudnn=False))
    assert both.forward_layer.supports_jit
    assert both.backward_layer.supports_jit


@pytest.mark.tensorflow
def test_exports(gpu):
    """Within an export no layer runs in cuDNN, not even Keras's own."""
    import tensorflow as tf

    from kerasrnn.export.tracing import for_export

    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            keras.layers.LSTM(4, return_sequences=True),
            kerasrnn.Bidirectional(kerasrnn.GRU(4, use_cudnn=True)),
        ]
    )

    def kinds():
        function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((2, 5, 3)))
        graph = function.graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return [node.op for node in nodes].count("CudnnRNNV3")

    with for_export(model):
        assert kinds() == 0
    assert kinds() == 3


@everywhere
@pytest.mark.parametrize("cls", ON_GPU)
def test_stateful_layers(cls, kernel):
    layer = built(cls, stateful=True, use_cudnn=True)
    with op_by_op():
        found = [layer(X[:, :2]), layer(X[:, 2:])][-1]
    expected = built(cls, use_cudnn=False)(X)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, expected)), atol=TIGHT)
    assert len(kernel) == 2
