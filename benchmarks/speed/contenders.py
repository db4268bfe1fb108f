"""The contenders: each prepares a point so that it can be timed; `on_jax` has those on JAX.

All have the same inputs, the same weights and the same task, in float32, batch first, on the CPU. A
training step computes the loss sum(y * r), where y is the outputs of all steps and r is fixed
random numbers, and its gradients with respect to the inputs and all weights. r is zero at masked
steps, where torch outputs zeros and Keras repeats the previous output.

Batches of random lengths go through `train_on_batch` and `predict_on_batch` of a model with an
unknown number of steps, as most Keras code is written: all of them in turn are one step of the
benchmark. The loss is the mean squared difference of the outputs from fixed random numbers, and the
learning rate is zero, so that all rounds compute the same.
"""

from typing import Any, NamedTuple

import numpy as np

from benchmarks.measuring.data import weights
from benchmarks.measuring.machine import cores
from benchmarks.measuring.worker import Ready
from benchmarks.speed.grid import BATCHES, CACHED, CONTENDERS, Point, backend

GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


class Data(NamedTuple):
    x: np.ndarray
    """The inputs, `(batch, time, *image, features)`."""

    r: np.ndarray
    """The factors of the outputs in the loss, `(batch, time, *image, outputs)`."""

    lengths: np.ndarray
    """The number of valid steps per row, `(batch,)`; the first row is always full."""


def data(point: Point) -> Data:
    batch, time, features, units = point.shape
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, time, *point.image, features), "float32")
    # By default, a projection has half of the units.
    outputs = units // 2 if point.cell == "LSTMP" else units
    r = random.standard_normal((batch, time, *point.image, outputs), "float32")
    lengths = np.full(batch, time)
    if point.masked:
        lengths[1:] = random.integers(time // 2, time + 1, batch - 1)
    used = np.arange(time) < lengths[:, None]
    return Data(x, r * used.reshape(*used.shape, *(1 for _ in r.shape[2:])), lengths)


def ready(contender: str, point: Point) -> Ready:
    """Prepare everything except the first call.

    Raises:
        ValueError: the contender is unknown.
    """
    if contender not in CONTENDERS:
        raise ValueError(f"contender {contender!r}: expected one of {', '.join(CONTENDERS)}")
    if point.part == "lengths":
        return _torch_lengths(point) if contender == "torch" else _keras_lengths(contender, point)
    if point.part == "start":
        return _fit(contender, point)
    if contender == "torch":
        return _torch(point)
    if contender == "floor":
        return _floor(point)
    if backend() == "jax":
        from benchmarks.speed import on_jax

        if contender == "flax":
            return on_jax.flax(point)
        return on_jax.keras_layer(_layer(contender, point), point)
    if point.mode == "inference" and contender in ("kerasrnn", "keras"):
        return _keras_predict(contender, point)
    return _keras(contender, point)


def _warm_up(steps: int) -> int:
    """The number of calls with so many time steps until kerasrnn has compiled a loop for inference,
    in `predict` or called eagerly."""
    if backend() == "jax":  # always compiled
        return 0
    from kerasrnn.recurrence.tensorflow.later import STEPS_BEFORE_COMPILING

    return -(-STEPS_BEFORE_COMPILING // steps) + 1


def _layer(contender: str, point: Point) -> Any:
    import keras

    import kerasrnn

    options = {
        "kerasrnn-xla": {"jit_compile": True},
        "kerasrnn-sqrt": {"checkpoint_every": "sqrt"},
        "keras-xla": {"use_cudnn": False} if point.cell != "SimpleRNN" else {},
        "keras-unrolled": {"unroll": True},
    }.get(contender, {})
    units = point.shape.units
    if point.image:
        options |= {"kernel_size": 3, "padding": "same"}
    if contender.startswith("keras-rnn"):
        cell = getattr(kerasrnn, f"{point.cell}Cell")(units, **options)
        return keras.layers.RNN(cell, return_sequences=True)
    house = kerasrnn if contender.startswith("kerasrnn") else keras.layers
    return getattr(house, point.cell)(units, return_sequences=True, **options)


def _keras(contender: str, point: Point) -> Ready:
    import tensorflow as tf

    if not tf.config.experimental.get_synchronous_execution():
        raise RuntimeError("eager execution is asynchronous: calls cannot be timed")
    layer = _layer(contender, point)
    inputs = data(point)
    layer.build(inputs.x.shape)
    shapes = [tuple(weight.shape) for weight in layer.weights]
    layer.set_weights(weights(shapes, point.shape.units))
    x, r = tf.constant(inputs.x), tf.constant(inputs.r)
    mask = None
    if point.masked:
        mask = tf.sequence_mask(inputs.lengths, point.shape.time)

    def training(x: Any, r: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=mask, training=True)
            loss = tf.reduce_sum(y * r)
        variables = [weight.value for weight in layer.trainable_weights]
        return [loss, *tape.gradient(loss, [x, *variables])]

    def inference(x: Any, r: Any, mask: Any) -> Any:
        return [layer(x, mask=mask, training=False)]

    function = training if point.mode == "training" else inference
    if point.mode != "eager":
        xla = contender in ("keras-xla", "keras-rnn-xla")
        function = tf.function(function, jit_compile=xla or None, autograph=False)

    def step() -> Any:
        results = function(x, r, mask)
        for result in results:
            memoryview(result)  # waits for the result without copying it
        return results

    def facts(results: Any) -> list[float]:
        return facts_of(point, [result.numpy() for result in results], inputs)

    # In a graph of `tf.function`, nothing is compiled later.
    return Ready(step, facts, _warm_up(point.shape.time) if point.mode == "eager" else 0)


def _keras_predict(contender: str, point: Point) -> Ready:
    import keras
    import tensorflow as tf

    layer = _layer(contender, point)
    batch, time, features, units = point.shape
    inputs = data(point)
    symbolic, tensors = [keras.Input((time, features), batch)], [tf.constant(inputs.x)]
    if point.masked:
        symbolic.append(keras.Input((time,), batch, dtype="bool"))
        tensors.append(tf.sequence_mask(inputs.lengths, time))
    model = keras.Model(symbolic, layer(symbolic[0], mask=(symbolic[1:] or [None])[0]))
    model.set_weights(weights([tuple(w.shape) for w in model.weights], units))
    model.compile()
    model.make_predict_function()

    def step() -> Any:
        result = model.predict_function([(tensors,)])
        memoryview(result)  # waits for the result without copying it
        return result

    def facts(result: Any) -> list[float]:
        return facts_of(point, [result.numpy()], inputs)

    return Ready(step, facts, _warm_up(time))


def _batches(point: Point) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of random lengths, of which the first is the longest."""
    inputs = data(point)
    random = np.random.default_rng(2)
    lengths = random.integers(point.shortest, point.shape.time + 1, BATCHES)
    lengths[0] = point.shape.time
    return [(inputs.x[:, :n].copy(), inputs.r[:, :n].copy()) for n in lengths]


def _keras_lengths(contender: str, point: Point) -> Ready:
    import keras

    layer = _layer(contender, point)
    model = keras.Sequential([keras.Input((None, point.shape.features)), layer])
    model.set_weights(weights([tuple(w.shape) for w in model.weights], point.shape.units))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    batches = _batches(point)

    def step() -> list[Any]:
        if point.mode == "training":
            return [model.train_on_batch(x, r) for x, r in batches]
        return [model.predict_on_batch(x) for x, _ in batches]

    return Ready(step, _facts_of_batches, _warm_up(point.shortest))


def _fit(contender: str, point: Point) -> Ready:
    """One step of `fit`, of a model that has not been called, on a backend that has computed."""
    import keras

    import kerasrnn

    if contender == CACHED:
        kerasrnn.cache_programs()
    inputs = data(point)
    model = keras.Sequential([keras.Input(point.shape[1:3]), _layer(contender, point)])
    model.set_weights(weights([tuple(w.shape) for w in model.weights], point.shape.units))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    np.asarray(keras.ops.add(keras.ops.ones(3), 1.0))

    def step() -> list[Any]:
        history = model.fit(inputs.x, inputs.r, batch_size=point.shape.batch, verbose=0)
        return history.history["loss"]

    return Ready(step, _facts_of_batches)


def _torch_lengths(point: Point) -> Ready:
    import torch

    torch.set_num_threads(cores())
    module = _torch_module(point)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    batches = [tuple(map(torch.from_numpy, batch)) for batch in _batches(point)]

    def train(x: Any, r: Any) -> float:
        optimizer.zero_grad()
        loss = ((module(x)[0] - r) ** 2).mean()
        loss.backward()
        optimizer.step()
        return float(loss)

    def step() -> list[Any]:
        if point.mode == "training":
            return [train(x, r) for x, r in batches]
        with torch.inference_mode():
            return [module(x)[0].numpy() for x, _ in batches]

    if point.mode != "training":
        module.eval()
    return Ready(step, _facts_of_batches)


def _facts_of_batches(results: list[Any]) -> list[float]:
    return [float(np.linalg.norm(result)) for result in results]


def _torch_module(point: Point) -> Any:
    import torch

    _, _, features, units = point.shape
    name = {"SimpleRNN": "RNN"}.get(point.cell, point.cell)
    module = getattr(torch.nn, name)(features, units, batch_first=True)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), _torch_weights(point), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return module


def _torch(point: Point) -> Ready:
    import torch

    time = point.shape.time
    torch.set_num_threads(cores())
    module = _torch_module(point)
    inputs = data(point)
    x, r, lengths = map(torch.from_numpy, inputs)

    def outputs(x: Any) -> Any:
        if not point.masked:
            return module(x)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        return torch.nn.utils.rnn.pad_packed_sequence(
            module(packed)[0], batch_first=True, total_length=time
        )[0]

    def training() -> Any:
        loss = (outputs(x) * r).sum()
        return [loss.detach(), *torch.autograd.grad(loss, [x, *module.parameters()])]

    def inference() -> Any:
        with torch.inference_mode():
            return [outputs(x)]

    def facts(results: Any) -> list[float]:
        return facts_of(point, [result.numpy() for result in results], inputs)

    if point.mode == "training":
        x.requires_grad_()
        return Ready(training, facts)
    module.eval()
    return Ready(inference, facts)


def _torch_weights(point: Point) -> list[np.ndarray]:
    """Keras's weights in torch's layout: transposed, with two biases, the gates as r, z, n."""
    _, _, features, units = point.shape
    columns = GATES[point.cell] * units
    bias_shape = (2, columns) if point.cell == "GRU" else (columns,)
    shapes = [(features, columns), (units, columns), bias_shape]
    kernel, recurrent_kernel, bias = weights(shapes, units)
    biases = tuple(bias) if point.cell == "GRU" else (bias, np.zeros_like(bias))
    found = []
    for value in (kernel.T, recurrent_kernel.T, *biases):
        blocks = np.split(value, GATES[point.cell])
        if point.cell == "GRU":
            blocks[:2] = blocks[1::-1]
        found.append(np.concatenate(blocks))
    return found


def _floor(point: Point) -> Ready:
    """The matrix products of the valid steps, each written to a preallocated array."""
    import torch

    _, time, features, units = point.shape
    torch.set_num_threads(cores())
    lengths = data(point).lengths
    rows = [int((lengths > t).sum()) for t in range(time)]
    all_rows, columns = sum(rows), GATES[point.cell] * units

    def array(*shape: int) -> Any:
        return torch.rand(shape) - 0.5

    # No result is an operand again: values that overflow or underflow would change the speed.
    x, kernel, a = array(all_rows, features), array(features, columns), array(all_rows, columns)
    h, recurrent_kernel, r = array(rows[0], units), array(units, columns), array(rows[0], columns)
    products = [(x, kernel, a), *((h[:n], recurrent_kernel, r[:n]) for n in rows)]
    if point.mode == "training":
        d_r, d_h, d_a = array(rows[0], columns), array(rows[0], units), array(all_rows, columns)
        products += [(d_r[:n], recurrent_kernel.T, d_h[:n]) for n in rows]
        products += [
            (x.T, d_a, array(features, columns)),
            (array(all_rows, units).T, d_a, array(units, columns)),
            (d_a, kernel.T, array(all_rows, features)),
        ]

    def step() -> None:
        with torch.inference_mode():
            for left, right, out in products:
                torch.mm(left, right, out=out)

    return Ready(step, lambda results: [])


def facts_of(point: Point, results: list[np.ndarray], inputs: Data) -> list[float]:
    """Norms of the outputs or, in training, of the gradients of the inputs and the kernel."""
    if point.mode == "training":
        return [float(np.linalg.norm(result)) for result in results[1:3]]
    return [float(np.linalg.norm(results[0] * inputs.r))]
