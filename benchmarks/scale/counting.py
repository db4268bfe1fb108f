"""Count the operations and bytes of a training step from a translation model.

Every matrix product of the step is listed with its three sizes, the number of times it runs, and
the time loop that it runs in, if any; a test compares their sum with that of the compiled program.
The module also counts the parameters, the bytes stored for the backward pass, and the passes of the
update over the weights. Nothing is executed, and no weight is initialized.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

import kerasrnn
from kerasrnn.keras_internals import flatten_layers

WIDE = 4
"""Bytes per number in float32: weights, states, gradients of weights."""

ADAM = 4
"""Numbers per weight: the weight, its gradient, and its two moments."""

EMBEDDINGS = "embeddings"
ENCODER = "encoder"
BRIDGE = "bridge"
ATTENTION = "attention"
DECODER = "decoder"
OUTPUT = "output"
PARTS = (EMBEDDINGS, ENCODER, BRIDGE, ATTENTION, DECODER, OUTPUT)


@dataclass(frozen=True)
class Product:
    """A matrix product `(rows, inner) (inner, columns)`."""

    part: str
    rows: int
    inner: int
    columns: int
    together: int = 1
    """Products of this size in one batched operation: one per row of a batch."""

    times: int = 1
    """How many times it runs in a training step, sequentially."""

    loop: str = ""
    """The time loop that it runs in; empty: it runs once, over all time steps."""

    reads_weights: bool = True
    """Whether its second factor is a weight rather than an activation."""

    @property
    def operations(self) -> int:
        """Multiplications and additions of all its runs."""
        return 2 * self.rows * self.inner * self.columns * self.together * self.times

    def moved(self, width: int) -> int:
        """Bytes read and written per run without a cache, at `width` bytes per number."""
        numbers = self.rows * self.inner + self.inner * self.columns + self.rows * self.columns
        return width * numbers * self.together


@dataclass(frozen=True)
class Shape:
    """The batch of a device: rows, and the padded lengths of source and target."""

    rows: int
    source: int
    target: int


def unfilled(make: Any) -> keras.Model:
    """Build a model without initializing its weights: counting needs only their shapes."""
    with keras.StatelessScope(initialize_variables=False):
        return make()


def parameters(model: keras.Model) -> dict[str, int]:
    """The number of parameters, by part."""
    counts = dict.fromkeys(PARTS, 0)
    for weight in model.trainable_weights:
        counts[_part(weight.path)] += math.prod(weight.shape)
    return counts


def _part(path: str) -> str:
    if path.endswith("/embeddings"):
        return EMBEDDINGS
    if path.startswith("encoder/"):
        return ENCODER
    if path.startswith("decoder/logits/"):
        return OUTPUT
    if path.rpartition("/")[2] in ("query_kernel", "key_kernel", "attention_v"):
        return ATTENTION
    if path.startswith("decoder/recurrent/"):
        return DECODER
    if path.startswith(("context/", "decoder/into_state/")):
        return BRIDGE
    raise ValueError(f"{path}: expected a weight of an encoder-decoder with a readout.")


def products(model: keras.Model, shape: Shape) -> list[Product]:
    """List all matrix products of a training step, forward and backward.

    Args:
        model: a model of `zoo.encoder_decoder` with LSTMs and Bahdanau attention.
        shape: the shape of the batch.

    Raises:
        ValueError: the model is of another kind.
    """
    decoder = model.get_layer("decoder")
    if decoder.tied or decoder.readout is None:
        raise ValueError("tied=True: expected a model whose output layer has its own weights.")
    found: list[Product] = []
    for layer in _recurrent(model.get_layer("encoder")):
        found += _of_layer(layer, ENCODER, shape.rows, shape.source)
    for layer in _recurrent(decoder):
        found += _of_layer(layer, DECODER, shape.rows, shape.target)
        if isinstance(layer.cell, kerasrnn.AttentionCell):
            found += _of_attention(layer, shape)
    for layer, part, rows in (
        (model.get_layer("context"), BRIDGE, shape.rows),
        (decoder.into_state, BRIDGE, shape.rows),
        (decoder.readout, OUTPUT, shape.rows * shape.target),
    ):
        found += _at_once(part, rows, *layer.kernel.shape)
    _check_all(model, found, shape)
    return found


def _recurrent(layer: Any) -> Iterator[Any]:
    for inner in flatten_layers(layer):
        if isinstance(inner, kerasrnn.RNN):
            yield inner


def _of_layer(layer: Any, part: str, rows: int, steps: int) -> list[Product]:
    """The input projection of all time steps, and the recurrent products step by step."""
    attends = isinstance(layer.cell, kerasrnn.AttentionCell)
    cell = layer.cell.cell if attends else layer.cell
    if not isinstance(cell, kerasrnn.LSTMCell):
        raise ValueError(f"{layer.name}: expected an LSTM, received {type(cell).__name__}.")
    features, width = cell.kernel.shape
    # The bias is an additional row of the kernel. Automatic differentiation, used for the step of a
    # cell with attention, computes the input projection again in the backward pass.
    found = _at_once(part, rows * steps, features + cell.use_bias, width, forward=1 + attends)
    return found + _in_loop(part, layer, rows, steps, [cell.recurrent_kernel.shape])


def _of_attention(layer: Any, shape: Shape) -> list[Product]:
    cell, rows, source, target = layer.cell, shape.rows, shape.source, shape.target
    if not isinstance(cell.attention, kerasrnn.BahdanauAttention) or cell.query != "state":
        raise ValueError(f"{layer.name}: expected Bahdanau's attention with query='state'.")
    # The context enters the cell, and the outputs of both are projected.
    of_decoder = [cell.feedback_kernel.shape, cell.output_kernel.shape]
    query, keys = (_matrix(cell.attention, name) for name in ("query_kernel", "key_kernel"))
    found = _in_loop(DECODER, layer, rows, target, of_decoder)
    found += _in_loop(ATTENTION, layer, rows, target, [query])
    found += _at_once(ATTENTION, rows * source, *keys)  # the keys, once per source
    width = cell.context_size
    forward, back = _loops(layer)
    context = {"together": rows, "reads_weights": False}
    return [
        *found,
        Product(ATTENTION, 1, source, width, times=target, loop=forward, **context),
        Product(ATTENTION, 1, width, source, times=target, loop=back, **context),
        Product(ATTENTION, source, target, width, **context),  # the gradient of the values
    ]


def _matrix(layer: Any, name: str) -> tuple[int, int]:
    (shape,) = (weight.shape for weight in layer.trainable_weights if weight.name == name)
    return shape


def _at_once(part: str, rows: int, inner: int, columns: int, forward: int = 1) -> list[Product]:
    """The forward product, and the gradients of its input and its weights."""
    return [
        *[Product(part, rows, inner, columns)] * forward,
        Product(part, rows, columns, inner),
        Product(part, inner, rows, columns, reads_weights=False),
    ]


def _in_loop(
    part: str, layer: Any, rows: int, steps: int, kernels: Sequence[tuple[int, int]]
) -> list[Product]:
    """Forward and backward step by step; the gradient of the weights once, for all steps."""
    found = []
    forward, back = _loops(layer)
    for inner, columns in kernels:
        found += [
            Product(part, rows, inner, columns, times=steps, loop=forward),
            Product(part, rows, columns, inner, times=steps, loop=back),
            Product(part, inner, rows * steps, columns, reads_weights=False),
        ]
    return found


def _loops(layer: Any) -> tuple[str, str]:
    return f"{layer.path}, forward", f"{layer.path}, back"


def _check_all(model: keras.Model, found: Sequence[Product], shape: Shape) -> None:
    """Check that no matrix is missing: each has one product that computes its gradient."""
    matrices = sum(
        len(weight.shape) == 2 and not weight.path.endswith("/embeddings")
        for weight in model.trainable_weights
    )
    gradients = sum(not p.reads_weights and p.together == 1 for p in found)
    if gradients != matrices:
        raise ValueError(
            f"{matrices} weight matrices; expected {gradients}, whose products are known."
        )


@dataclass(frozen=True)
class Loop:
    """A time loop: a sequence of time steps, each dependent on the previous one."""

    name: str
    steps: int
    products: tuple[Product, ...]
    """The products of each time step."""

    extra: int
    """Further bytes that each time step reads and writes, for the source positions."""

    @property
    def kind(self) -> str:
        """The kind of program that the loop runs: one of `KINDS`."""
        direction = self.name.rsplit(", ", 1)[1]
        if any(product.part == ATTENTION for product in self.products):
            return f"attention, {direction}"
        return f"LSTM, {direction}"


KINDS = ("LSTM, forward", "LSTM, back", "attention, forward", "attention, back")

PASSES_OF_POSITIONS = {"forward": 1, "back": 5}
"""Reads and writes of arrays as large as the keys in a time step with attention, besides its
products. The forward pass reads the keys. The backward pass reads the keys, writes and reads the
gradient of the tanh's arguments, and reads and writes the accumulated gradient of the keys."""


def loops(found: Sequence[Product], shape: Shape) -> list[Loop]:
    """The time loops that the products run in."""
    names = dict.fromkeys(product.loop for product in found if product.loop)
    made = []
    for name in names:
        inside = tuple(product for product in found if product.loop == name)
        extra = 0
        if any(product.part == ATTENTION for product in inside):
            (width,) = {p.columns for p in found if p.part == ATTENTION and _is_of_keys(p, shape)}
            passes = PASSES_OF_POSITIONS[name.rsplit(", ", 1)[1]]
            extra = passes * WIDE * shape.rows * shape.source * width
        made.append(Loop(name, inside[0].times, inside, extra))
    return made


def _is_of_keys(product: Product, shape: Shape) -> bool:
    """Whether it is the product that computes the gradient of the keys' weights."""
    return not product.loop and product.inner == shape.rows * shape.source


def kept(model: keras.Model, shape: Shape, width: int) -> dict[str, int]:
    """Approximate bytes that the forward pass stores for the backward pass, by part.

    Each layer stores its input with the column of ones, its output, and, in float32, its states
    before each step and its gates; a step with attention stores the operands and results of its
    products. The output stores the logits, the probabilities, and the gradient of the logits, which
    exists before anything else is freed.

    Args:
        model: as in `products`.
        shape: the shape of the batch.
        width: bytes per number outside the loops: 4, or 2 in half precision.
    """
    source, target = shape.rows * shape.source, shape.rows * shape.target
    decoder = model.get_layer("decoder")
    counts = dict.fromkeys(PARTS, 0)
    counts[EMBEDDINGS] = width * (
        source * model.get_layer("embedding").output_dim + target * decoder.embedding.output_dim
    )
    for layer in _recurrent(model.get_layer("encoder")):
        counts[ENCODER] += source * _of_lstm(layer.cell, width)
    for layer in _recurrent(decoder):
        cell = layer.cell
        if not isinstance(cell, kerasrnn.AttentionCell):
            counts[DECODER] += target * _of_lstm(cell, width)
            continue
        gates = cell.cell.recurrent_kernel.shape[1]
        context, out = cell.context_size, cell.units
        _, query = _matrix(cell.attention, "query_kernel")
        states = 2 * cell.cell.units + shape.source
        results = query + context + 2 * gates + out
        arguments = shape.source + context + (context + cell.cell.units)
        features = cell.cell.kernel.shape[0] + cell.cell.use_bias
        counts[DECODER] += target * (
            WIDE * (states + results + arguments) + width * (out + features + gates)
        )
        # The keys and their gradient in float32; the values and their gradient.
        counts[ATTENTION] += source * (2 * WIDE * query + 2 * width * context)
    counts[OUTPUT] = target * decoder.size * (2 * WIDE + width)
    return counts


def _of_lstm(cell: Any, width: int) -> int:
    features, gates = cell.kernel.shape
    return WIDE * (2 * cell.units + gates) + width * (cell.units + features + cell.use_bias)


OUTPUT_PASSES = 8
"""Reads and writes of arrays as large as the logits. The logits are written, and read for the sum
of their exponentials, the loss and the accuracy. Their gradient is written, and read for the bias.
The two products that read the gradient count these reads themselves."""


def passes(n: int, operations: Sequence[Any]) -> float:
    """Count how many times the operations of a graph read or write arrays of the size of a weight.

    Each operation counts as a separate pass, as TensorFlow runs them; XLA would fuse them.

    Args:
        n: the size of the weight; no other tensor may have this size.
        operations: the operations of a graph that updates the weight.
    """
    total = 0.0
    for operation in operations:
        if operation.type in ("Identity", "Placeholder", "ReadVariableOp", "Const", "NoOp"):
            continue
        sizes = [(x.shape.num_elements(), x.dtype.size) for x in operation.inputs]
        sizes += [(x.shape.num_elements(), x.dtype.size) for x in operation.outputs]
        total += sum(size / WIDE for count, size in sizes if count == n)
        if operation.type.startswith("Assign"):  # the variable itself is not among the tensors
            total += 1 + (operation.type != "AssignVariableOp")
    return total


FUSED_PASSES = 8
"""The passes of an update compiled into one program: the gradient is read for its norm, then the
weight, the gradient and the two moments are read, and all but the gradient are written."""
