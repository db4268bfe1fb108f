"""The pointer-generator: its distribution in NumPy, step by step, in beams; the coverage loss."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.decoding import Beam, PointerGenerator, ScheduledSampling
from kerasrnn.decoding.copying import summed_by_id
from tests import numpy_models
from tests.decoding.test_attending import (
    ATTENDING,
    IDS,
    MASK,
    new_decoder,
    step_by_step,
    tensors,
)
from tests.decoding.test_beam import all_sequences
from tests.decoding.test_generator import END, START
from tests.measure import FIRST_BACKEND, op_by_op, randomize

# Ids 7 to 9 are beyond the vocabulary. Symbols occur twice, and some cannot be copied.
SOURCE = np.array([[7, 3, 7, 8], [4, 7, 0, 4], [0, 0, 0, 0]])
READ = np.array([[1, 4, 7, 6], [1, 9, 3, 8], [2, 2, 1, 4]])
COPYING = [
    *ATTENDING,
    (lambda: kerasrnn.MonotonicAttention(kerasrnn.LuongAttention()), {}),
    (lambda: kerasrnn.LuongAttention(normalization="entmax"), {"input_feeding": False}),
]


def new_copying(attention=None, **options):
    decoder = new_decoder(attention, copied=3, **options)
    decoder.pointer.gate.bias.assign([0.3])
    return decoder


@op_by_op()
@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("attention", "options"), COPYING, ids=lambda x: str(x) if isinstance(x, dict) else ""
)
def test_the_distribution_of_all_steps_and_of_single_ones(attention, options):
    """Equations 8 and 9, with a memory that is partly or fully masked. What cannot be copied has no
    share; symbols outside the vocabulary and the source are impossible."""
    decoder, (c, memory) = new_copying(attention(), **options), tensors()
    expected, alpha = numpy_models.decode_copying(decoder, READ, c, memory, MASK, SOURCE)
    given = {"memory": memory, "memory_mask": MASK, "source_ids": SOURCE}
    logits = ops.convert_to_numpy(decoder(READ, context=c, **given))
    assert logits.shape == (3, 4, 10)
    np.testing.assert_allclose(numpy_models.softmax(logits), expected, atol=1e-5)
    assert (logits[..., 9] < -1e29).all()
    prepared = decoder.prepare_memory(memory, MASK, SOURCE)
    stepped, weights, _ = step_by_step(decoder, READ, c, prepared)
    np.testing.assert_allclose(numpy_models.softmax(stepped), expected, atol=1e-5)
    np.testing.assert_allclose(weights, alpha, atol=1e-5)


@pytest.mark.tensorflow
@op_by_op()
def test_gradients_equal_finite_differences():
    """Of the loss of symbols that are generated, copied, or both, with the coverage loss."""
    import tensorflow as tf

    wide = {"dtype": "float64"}
    decoder = kerasrnn.Decoder(
        7,
        [kerasrnn.GRU(6, **wide)],
        context="state",
        attention=kerasrnn.CoverageAttention(3, **wide),
        copied=3,
        coverage_loss=0.5,
        **wide,
    )
    decoder.build((None, None), (None, 2), (None, None, 5))
    randomize(decoder)
    c, memory = (x.astype("float64") for x in tensors())
    targets = np.array([[7, 3, 8, 0], [4, 1, 2, 0], [1, 2, 3, 0]])
    used = targets > 0

    def loss():
        y = decoder(READ, context=c, memory=memory, memory_mask=MASK, source_ids=SOURCE, mask=used)
        log_p = tf.nn.log_softmax(y, axis=-1)
        chosen = tf.gather(log_p, targets, batch_dims=2)
        (extra,) = decoder.losses
        return -tf.reduce_sum(tf.where(used, chosen, 0.0)) + extra

    weights = decoder.trainable_variables
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [w.value for w in weights])
    random = np.random.default_rng(0)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = random.standard_normal(weight.shape)
        start, sides = np.asarray(weight), []
        for step in (1e-6, -1e-6):
            weight.assign(start + step * direction)
            sides.append(float(loss()))
        weight.assign(start)
        found = np.sum(direction * np.asarray(tf.convert_to_tensor(gradient)))
        np.testing.assert_allclose(found, (sides[0] - sides[1]) / 2e-6, rtol=1e-4, atol=1e-6)


@op_by_op()
@pytest.mark.torch_backend
def test_the_coverage_loss():
    """Equation 12, step by step, without the steps that are padding; 0 if nothing is repeated."""
    decoder, (c, memory) = new_decoder(kerasrnn.CoverageAttention(3), coverage_loss=0.7), tensors()
    previous = np.array([[1, 4, 2, 6], [1, 5, 0, 0], [2, 2, 1, 4]])
    given = {"context": c, "memory": memory, "memory_mask": MASK}
    decoder(previous, **given)
    (found,) = decoder.losses
    _, alpha = numpy_models.decode_attending(decoder, previous, c, memory, MASK)
    total = 0.0
    for n, row in enumerate(previous):
        covered = np.zeros(4)
        for t in range(4):
            if row[t]:
                total += np.minimum(alpha[n, t], covered).sum()
                covered += alpha[n, t]
    np.testing.assert_allclose(float(found), 0.7 * total / (previous > 0).sum(), rtol=1e-4)
    decoder(previous[:, :1], **given)
    assert float(decoder.losses[0]) == 0


@op_by_op()
def test_attention_of_all_steps():
    """Beside the logits, also if all steps attend at once."""
    for attention, options in (COPYING[0], COPYING[2], COPYING[3]):
        decoder = new_decoder(attention(), return_attention=True, **options)
        c, memory = tensors()
        _, alpha = numpy_models.decode_attending(decoder, IDS, c, memory, MASK)
        logits, found = decoder(IDS, context=c, memory=memory, memory_mask=MASK)
        np.testing.assert_allclose(found, alpha, atol=1e-5)
        assert tuple(logits.shape) == (3, 4, 7)


def test_sums_of_equal_ids():
    random = np.random.default_rng(0)
    ids, weights = random.integers(0, 6, (3, 8)), random.random((3, 2, 8))
    expected = np.zeros((3, 2, 5))
    for n, t, j in np.ndindex(3, 2, 8):
        if 0 < ids[n, j] < 5:
            expected[n, t, ids[n, j]] += weights[n, t, j]
    found = summed_by_id(ops.convert_to_tensor(weights), ops.convert_to_tensor(ids), 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = summed_by_id(ops.convert_to_tensor(weights[:, 0]), ops.convert_to_tensor(ids), 5)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)


def generating(sampler=None, **options):
    decoder = new_copying(size=4)
    return kerasrnn.Generator(decoder, sampler, 3, START, END, return_lengths=True, **options)


@op_by_op()
def test_a_beam_finds_the_best_of_all_sequences():
    """Of generated and copied symbols, which the decoder reads as unknown."""
    beam = Beam(60, 0.5, n_best=4)
    generator = generating(beam, return_scores=True)
    decoder, (c, memory) = generator.decoder, tensors()
    source = np.array([[4, 3, 4, 5], [3, 4, 0, 3], [0, 0, 0, 0]])
    symbols, lengths, scores = map(
        np.asarray, generator(c, memory=memory, memory_mask=MASK, source_ids=source)
    )
    for row in range(3):
        found, every = [], list(all_sequences(7, 3))
        width = max(map(len, every))
        previous = np.zeros((len(every), width), int)
        for k, written in enumerate(every):
            previous[k, : len(written)] = [START, *written[:-1]]
        repeated = [
            np.repeat(x[row : row + 1], len(every), axis=0) for x in (c, memory, MASK, source)
        ]
        given = dict(zip(("context", "memory", "memory_mask", "source_ids"), repeated, strict=True))
        log_p = np.array(ops.log_softmax(decoder(np.maximum(previous, 1), **given), axis=-1))
        for k, written in enumerate(every):
            total = log_p[k, range(len(written)), written].sum()
            if total > -1e20:
                found.append((total / ((5 + len(written)) / 6) ** 0.5, written))
        found.sort(reverse=True)
        for n, (score, written) in enumerate(found[:4]):
            assert symbols[row, n, : lengths[row, n]].tolist() == written
            np.testing.assert_allclose(scores[row, n], score, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@op_by_op()
def test_half_precision(dtype):
    """Impossible symbols have finite logits, in float32."""
    decoder, (c, memory) = new_copying(), tensors()
    half = new_copying(kerasrnn.BahdanauAttention(3, dtype=dtype), dtype=dtype)
    half.set_weights(decoder.get_weights())
    given = {"context": c, "memory": memory, "memory_mask": MASK, "source_ids": SOURCE}
    p, logits = ops.softmax(decoder(READ, **given)), half(READ, **given)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(ops.softmax(logits), p, atol=0.03)


@op_by_op()
def test_saved_and_loaded(tmp_path):
    """Training and generating models, on sequences of unknown lengths."""
    generator = generating(Beam(3), name="write")
    decoder = generator.decoder
    shapes = {"previous": (None,), "context": (2,), "memory": (None, 5), "source_ids": (None,)}
    inputs = {
        name: keras.Input(shape, dtype="int32" if shape == (None,) else None, name=name)
        for name, shape in shapes.items()
    }
    logits = decoder(**inputs)
    rest = {name: x for name, x in inputs.items() if name != "previous"}
    model = keras.Model(inputs, [logits, generator(**rest)[0]])
    c, memory = tensors()
    batch = {"previous": READ % 4, "context": c, "memory": memory, "source_ids": SOURCE % 7}
    expected = model(batch)
    eager = decoder(batch["previous"], context=c, memory=memory, source_ids=SOURCE % 7)
    np.testing.assert_allclose(expected[0], eager, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded(batch), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": None}, "copied=3: the decoder has no attention; expected None"),
        ({"kind": "flags"}, "copied=3: flags are not copied"),
        ({"copied": 0}, "copied=0: expected a positive integer"),
        ({"sampling": ScheduledSampling("exponential", k=0.9)}, "outside its vocabulary"),
        ({"copied": None, "attention": None, "coverage_loss": 1.0}, "coverage_loss=1.0: the dec"),
        ({"coverage_loss": -1.0}, "coverage_loss=-1.0: expected"),
    ],
)
def test_bad_options(options, message):
    options = {"copied": 3, "attention": kerasrnn.BahdanauAttention(3), **options}
    with pytest.raises(ValueError, match=message):
        kerasrnn.Decoder(7, [kerasrnn.GRU(4)], **options)


def test_bad_calls():
    c, memory = tensors()
    with pytest.raises(ValueError, match="copied=3 expects source_ids"):
        new_copying()(IDS, context=c, memory=memory)
    with pytest.raises(ValueError, match=r"source_ids have the shape \(3, 2\); expected"):
        new_copying()(IDS, context=c, memory=memory, source_ids=SOURCE[:, :2])
    with pytest.raises(ValueError, match="source_ids were given; expected none"):
        new_decoder()(IDS, context=c, memory=memory, source_ids=SOURCE)
    with pytest.raises(ValueError, match="size=0: expected a positive integer"):
        PointerGenerator(0, 2)
