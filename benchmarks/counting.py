"""What a step of training a translation model takes, counted from the model.

Every matrix product that the step's graph has is listed with its three sizes, how often it runs,
and the time loop that it runs in, if it is in one; a test adds up the products of the compiled
program and compares. So are the parameters, the bytes that are kept for the way back, and the times
that the update passes over the weights. Nothing is run, and no weight is drawn.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

import kerasrnn
from kerasrnn.keras_internals import flatten_layers

WIDE = 4
"""Bytes of a number in float32: weights, states, gradients of weights."""

ADAM = 4
"""Numbers of a weight: itself, its gradient, and its two moments."""

EMBEDDINGS = "embeddings"
ENCODER = "encoder"
BRIDGE = "between them"
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
    """Products of this size that are one operation: one for each row of a batch."""

    times: int = 1
    """How often it runs in a step of training, one after the other."""

    loop: str = ""
    """The time loop that it runs in; none: it runs once, for all steps of time at once."""

    reads_weights: bool = True
    """Whether its second factor is weights, and not numbers of the batch."""

    @property
    def operations(self) -> int:
        """Multiplications and additions, over all times."""
        return 2 * self.rows * self.inner * self.columns * self.together * self.times

    def moved(self, width: int) -> int:
        """Bytes that it reads and writes each time, of numbers so wide, if nothing is cached."""
        numbers = self.rows * self.inner + self.inner * self.columns + self.rows * self.columns
        return width * numbers * self.together


@dataclass(frozen=True)
class Shape:
    """A batch of a device: rows, and the steps that source and target are padded to."""

    rows: int
    source: int
    target: int


def unfilled(make: Any) -> keras.Model:
    """A model whose weights have shapes, and no numbers: what is counted needs none."""
    with keras.StatelessScope(initialize_variables=False):
        return make()


def parameters(model: keras.Model) -> dict[str, int]:
    """How many there are, by part."""
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
    """All matrix products of a step of training, forward and back.

    Args:
        model: of `zoo.encoder_decoder`, of LSTM, with Bahdanau's attention.
        shape: of the batch.

    Raises:
        ValueError: the model is another one.
    """
    decoder = model.get_layer("decoder")
    if decoder.tied or decoder.readout is None:
        raise ValueError("tied=True: expected a model whose output has weights of its own.")
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
    """The input part, which all steps share, and the recurrent part, step by step."""
    attends = isinstance(layer.cell, kerasrnn.AttentionCell)
    cell = layer.cell.cell if attends else layer.cell
    if not isinstance(cell, kerasrnn.LSTMCell):
        raise ValueError(f"{layer.name}: expected an LSTM, received {type(cell).__name__}.")
    features, width = cell.kernel.shape
    # The bias is one more row of the kernel. What is differentiated automatically, as the step of a
    # cell that attends, asks for the input part once more on the way back.
    found = _at_once(part, rows * steps, features + cell.use_bias, width, forward=1 + attends)
    return found + _in_loop(part, layer, rows, steps, [cell.recurrent_kernel.shape])


def _of_attention(layer: Any, shape: Shape) -> list[Product]:
    cell, rows, source, target = layer.cell, shape.rows, shape.source, shape.target
    if not isinstance(cell.attention, kerasrnn.BahdanauAttention) or cell.query != "state":
        raise ValueError(
            f"{layer.name}: expected Bahdanau's attention, asked by the state before the step."
        )
    # What the attention finds enters the cell, and what both put out is projected.
    of_decoder = [cell.feedback_kernel.shape, cell.output_kernel.shape]
    query, keys = (_matrix(cell.attention, name) for name in ("query_kernel", "key_kernel"))
    found = _in_loop(DECODER, layer, rows, target, of_decoder)
    found += _in_loop(ATTENTION, layer, rows, target, [query])
    found += _at_once(ATTENTION, rows * source, *keys)  # the keys' share, once for a source
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
    """Forward, and the gradients of what enters and of the weights."""
    return [
        *[Product(part, rows, inner, columns)] * forward,
        Product(part, rows, columns, inner),
        Product(part, inner, rows, columns, reads_weights=False),
    ]


def _in_loop(
    part: str, layer: Any, rows: int, steps: int, kernels: Sequence[tuple[int, int]]
) -> list[Product]:
    """Forward and back step by step; the gradient of the weights once, for all steps."""
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
    """See that no matrix was forgotten: each has one product that makes its gradient."""
    matrices = sum(
        len(weight.shape) == 2 and not weight.path.endswith("/embeddings")
        for weight in model.trainable_weights
    )
    gradients = sum(not p.reads_weights and p.together == 1 for p in found)
    if gradients != matrices:
        raise ValueError(f"{matrices} matrices; expected {gradients}, whose products are known.")


@dataclass(frozen=True)
class Loop:
    """A time loop: as many steps as it has, each of which waits for the one before."""

    name: str
    steps: int
    products: tuple[Product, ...]
    """Of each step."""

    extra: int
    """Bytes that each step reads and writes besides: those of a source's positions."""

    @property
    def kind(self) -> str:
        """Which others run the same program: see `KINDS`."""
        direction = self.name.rsplit(", ", 1)[1]
        if any(product.part == ATTENTION for product in self.products):
            return f"attention, {direction}"
        return f"LSTM, {direction}"


KINDS = ("LSTM, forward", "LSTM, back", "attention, forward", "attention, back")

PASSES_OF_POSITIONS = {"forward": 1, "back": 5}
"""How often a step that attends reads or writes numbers as many as the keys have, besides its
products: forward it reads them; on the way back it reads them, writes and reads what the tanh of
each sum passes back, and reads and writes the sum of the keys' gradients."""


def loops(found: Sequence[Product], shape: Shape) -> list[Loop]:
    """The time loops that products run in."""
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
    """Whether it is the product that makes the gradient of the keys' weights."""
    return not product.loop and product.inner == shape.rows * shape.source


def kept(model: keras.Model, shape: Shape, width: int) -> dict[str, int]:
    """Bytes that the way forward keeps for the way back, by part, about.

    Of each layer its input with the column of ones, what it puts out, and, in float32, its states
    before each step and its gates; a step that attends keeps the results of its products and what
    they were made of. Of the output: logits, probabilities, and the gradient of the logits, which
    is there before anything else is let go.

    Args:
        model: as for `products`.
        shape: of the batch.
        width: bytes of a number outside the loops: 4, or 2 in half precision.
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
        # The keys and their gradient in float32; the values, and theirs.
        counts[ATTENTION] += source * (2 * WIDE * query + 2 * width * context)
    counts[OUTPUT] = target * decoder.size * (2 * WIDE + width)
    return counts


def _of_lstm(cell: Any, width: int) -> int:
    features, gates = cell.kernel.shape
    return WIDE * (2 * cell.units + gates) + width * (cell.units + features + cell.use_bias)


OUTPUT_PASSES = 8
"""How often a number for each class of each token is read or written: the logits are written, read
for the sum of their exponentials, for the loss and for the accuracy; their gradient is written,
and read for the bias and by two products (which count them themselves, and are left out)."""


def passes(n: int, operations: Sequence[Any]) -> float:
    """How often operations of a graph read or write numbers as many as a weight has.

    Each is taken for a pass of its own, as TensorFlow runs them; XLA fuses them.

    Args:
        n: how many the weight has; nothing else has as many.
        operations: of a graph that updates it.
    """
    total = 0.0
    for operation in operations:
        if operation.type in ("Identity", "Placeholder", "ReadVariableOp", "Const", "NoOp"):
            continue
        sizes = [(x.shape.num_elements(), x.dtype.size) for x in operation.inputs]
        sizes += [(x.shape.num_elements(), x.dtype.size) for x in operation.outputs]
        total += sum(size / WIDE for count, size in sizes if count == n)
        if operation.type.startswith("Assign"):  # into the variable, which is no tensor
            total += 1 + (operation.type != "AssignVariableOp")
    return total


FUSED_PASSES = 8
"""The same where one program makes the update: the gradient is read for its norm, then the weight,
the gradient and the two moments are read, and all but the gradient are written."""
