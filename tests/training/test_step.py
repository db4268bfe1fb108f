"""A step of training equals that of Keras's `fit`, also if its batch is split."""

import functools
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import losses
from kerasrnn.training.errors import BatchError
from kerasrnn.training.loop import Loop
from kerasrnn.training.optimizers import adamw
from kerasrnn.training.step import Signals, TrainingModel

pytestmark = pytest.mark.tensorflow

CLASSES = 5


def batches(count, rows=8, steps=6):
    """Ids in rows of very different lengths, sorted by them, and a class for each id."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 9, (count, rows, steps))
    lengths = np.sort(random.integers(1, steps + 1, (count, rows)), axis=1)
    ids[np.arange(steps) >= lengths[..., None]] = 0
    return tf.data.Dataset.from_tensor_slices((ids, np.where(ids > 0, ids % (CLASSES - 1) + 1, 0)))


def tagger():
    """A model of masked sequences. Its loss is weighted as that of a recurrent one."""
    keras.utils.set_random_seed(0)
    embedding = keras.layers.Embedding(9, 4, mask_zero=True)
    outputs = keras.layers.Dense(CLASSES, activation="softmax")
    return keras.Sequential([keras.Input((None,)), embedding, outputs])


def vectors_tagger():
    """The same with dropout, and with a dense gradient of all weights."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Masking(), keras.layers.Dense(4), keras.layers.Dropout(0.4)]
    outputs = keras.layers.Dense(CLASSES, activation="softmax")
    return keras.Sequential([keras.Input((None, 9)), *layers, outputs])


@functools.cache
def trained(parts, loss, fused=1):
    """After four steps of SGD: Adam amplifies rounding errors where a gradient is small."""
    dataset = batches(4)
    model = TrainingModel(tagger(), Signals(), parts)
    optimizer = keras.optimizers.SGD(0.5, global_clipnorm=0.5)
    model.compile(optimizer, LOSSES[loss](), metrics=["accuracy"])
    model.prepare(dataset)
    loop, source, done = Loop(model, fused=fused), iter(dataset), 0
    while done < 4:
        done += loop.train(source, 4 - done)
    return model, loop.results()


LOSSES = {
    "Keras's, with masks": lambda: "sparse_categorical_crossentropy",
    "over tokens": lambda: losses.SequenceCrossentropy(0.1, ignore_class=0),
    "over sequences": lambda: losses.SequenceCrossentropy(average="sequence", ignore_class=0),
}


def test_parts_are_computed_sequentially():
    """Otherwise all parts are in memory at once."""
    model = TrainingModel(tagger(), Signals(), parts=4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    dataset = batches(1)
    model.prepare(dataset)
    step = tf.function(model.train_step, input_signature=[dataset.element_spec])
    graph = step.get_concrete_function().graph.as_graph_def()
    loops = [node for node in graph.node if node.op in ("While", "StatelessWhile")]
    assert [loop.attr["parallel_iterations"].i for loop in loops] == [1]


@pytest.mark.parametrize("loss", LOSSES)
def test_one_device_equals_keras_fit(loss):
    """With the same dropout masks; gradients are dense in Keras, too."""
    dataset = batches(5).map(lambda x, y: (tf.one_hot(x, 9), y))
    theirs, ours = (vectors_tagger() for _ in range(2))
    keras_adamw = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(1e-3, 5), weight_decay=0.01, global_clipnorm=0.1
    )
    theirs.compile(keras_adamw, LOSSES[loss](), metrics=["accuracy"], jit_compile=False)
    ours = TrainingModel(ours, Signals())
    ours.compile(adamw(5, clip_at=0.1), LOSSES[loss](), metrics=["accuracy"])
    history = theirs.fit(dataset, shuffle=False, verbose=0).history
    ours.prepare(dataset)
    loop, source = Loop(ours), iter(dataset)
    for _ in range(5):
        loop.train(source, 1)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=0, atol=1e-7)
    assert loop.results() == pytest.approx({k: v[0] for k, v in history.items()}, rel=1e-6)
    evaluated = theirs.evaluate(dataset, return_dict=True, verbose=0)
    assert loop.evaluate(dataset, lambda: None) == pytest.approx(evaluated, rel=1e-6)


@pytest.mark.parametrize(("loss", "parts"), [*((loss, 8) for loss in LOSSES), ("over tokens", 2)])
def test_parts_equal_the_whole_batch(loss, parts):
    """The parts have very different numbers of tokens."""
    whole, expected = trained(1, loss)
    split, found = trained(parts, loss, fused=3)
    for a, b in zip(split.trainable_weights, whole.trainable_weights, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=0, atol=2e-6, err_msg=a.path)
    assert found == pytest.approx(expected, rel=1e-5)


def two_outputs(mask_zero=False):
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,))
    vectors = keras.layers.Embedding(9, 4, mask_zero=mask_zero)(ids)
    outputs = {name: keras.layers.Dense(CLASSES, name=name)(vectors) for name in ("a", "b")}
    return keras.Model(ids, outputs)


def of_two_outputs(parts, reduction="sum_over_batch_size", mask_zero=False, weight=False):
    """The weights after one step."""
    model = TrainingModel(two_outputs(mask_zero), Signals(), parts)
    loss = keras.losses.MeanSquaredError(reduction)
    model.compile(keras.optimizers.SGD(0.5), {"a": loss, "b": "mae"})

    def targets(x, y):
        y = tf.one_hot(y, CLASSES)
        both = {"a": y, "b": 2 * y}
        return (x, both, tf.ones(8)) if weight else (x, both)

    dataset = batches(1).map(targets)
    model.prepare(dataset)
    Loop(model).train(iter(dataset), 1)
    return model.get_weights()


def test_parts_of_a_batch_for_several_outputs():
    for a, b in zip(of_two_outputs(4), of_two_outputs(1), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_zero": True}, "the model has 2 outputs, and its loss is a sum of w"),
        ({"weight": True}, "the model has 2 outputs, and its loss is a sum of w"),
        ({"reduction": "sum"}, "reduction='sum': expected"),
    ],
    ids=str,
)
def test_losses_that_parts_cannot_compute_are_refused(options, message):
    with pytest.raises(BatchError, match=message):
        of_two_outputs(2, **options)


@pytest.mark.parametrize("clipped", [False, True])
def test_the_rows_of_an_embedding_gradient_are_summed_first(clipped):
    """Keras on TensorFlow sums the rows of a repeated id after clipping and squaring them."""
    inputs = keras.Input((None,), dtype="int32")
    rows = keras.layers.Embedding(2, 1, embeddings_initializer="zeros")(inputs)
    model = TrainingModel(keras.Model(inputs, rows), Signals())
    sgd = keras.optimizers.SGD(1.0, global_clipnorm=0.5)
    adam = adamw(1, clipping="none", schedule="constant", weight_decay=0.0)
    model.compile(sgd if clipped else adam, "mse")
    dataset = tf.data.Dataset.from_tensors((np.ones((1, 4), "int32"), np.ones((1, 4, 1))))
    model.prepare(dataset)
    Loop(model).train(iter(dataset), 1)
    # d/dw of the mean of (w - 1)^2 is -2: clipped to -0.5; and Adam's first step is the rate.
    expected = [[0.0], [0.5 if clipped else 1e-3]]
    np.testing.assert_allclose(np.array(model.weights[0]), expected, rtol=1e-4)


def test_a_weight_without_a_gradient_is_named():
    inputs = keras.Input((3,))
    unused = keras.layers.Dense(2, name="unused")(inputs)
    outputs = keras.layers.Dense(2, name="used")(inputs)
    model = keras.Model(inputs, outputs + keras.ops.stop_gradient(unused))
    model = TrainingModel(model, Signals())
    model.compile(adamw(1), "mse")
    dataset = tf.data.Dataset.from_tensors((np.ones((4, 3), "float32"), np.ones((4, 2), "float32")))
    model.prepare(dataset)
    with pytest.raises(ValueError, match="the loss does not depend on the weights unused/kernel"):
        Loop(model).train(iter(dataset), 1)


def test_gradients_that_are_not_finite_change_no_weight():
    """The step is recorded, also within several steps of one call."""
    model = TrainingModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), Signals())
    model.compile(adamw(10, weight_decay=0.0), "mse")
    data = np.ones((4, 4, 3), "float32")
    data[2, 1, 1] = np.inf
    dataset = tf.data.Dataset.from_tensor_slices((data, np.zeros((4, 4, 2), "float32")))
    model.prepare(dataset)
    loop = Loop(model, fused=4)
    assert loop.train(iter(dataset), 4) == 4
    assert int(model.signals.diverged_at) == 2
    for weight in model.weights:
        assert np.isfinite(np.array(weight)).all()


def test_a_trace_for_each_length_is_no_warning(caplog):
    """TensorFlow still warns of other functions."""
    caplog.set_level(logging.WARNING, "tensorflow")  # a command hides its warnings
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
        layers = [keras.layers.Embedding(9, 2), keras.layers.Dense(CLASSES)]
        model = TrainingModel(keras.Sequential([keras.Input((None,)), *layers]), Signals())
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.prepare(batches(1))
        loop = Loop(model)
        for steps in range(1, 7):
            loop.train(iter(batches(1, steps=steps)), 1)
            loop.evaluate(batches(1, steps=steps), lambda: None)
        assert not records
        theirs = tf.function(lambda x: x + 1)
        for steps in range(1, 7):
            theirs(tf.zeros(steps))
    finally:
        logger.removeHandler(handler)
    assert all("retracing" in record.getMessage() for record in records)
    assert records
