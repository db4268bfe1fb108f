"""Pointer networks: their distribution in NumPy, step by step, in beams; what may be pointed at."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.decoding import Beam, NoRepeatNGrams, PointerDecoder, Sample
from tests import numpy_models
from tests.decoding.test_attending import step_by_step
from tests.measure import FIRST_BACKEND, op_by_op, randomize

MASK = np.array([[True] * 4, [True, False, True, False], [False] * 4])
# Ids: 1 is the start and the end, 2 to 5 are the positions.
READ = np.array([[1, 4, 2, 5], [1, 4, 2, 0], [1, 0, 0, 0]])
VISITS = ("any", "at_most_once", "exactly_once")
OPTIONS = [
    {},
    {"depth": 2, "residual": True, "context": "both"},
    {"attention": kerasrnn.LuongAttention, "context": None},
]


def new_decoder(visits="any", attention=None, depth=1, context="state", seed=1, **options):
    """Built, with random weights."""
    attention = kerasrnn.BahdanauAttention(3) if attention is None else attention()
    layers = [kerasrnn.LSTM(6), kerasrnn.GRU(6)][-depth:]
    decoder = PointerDecoder(layers, attention, visits, context, **options)
    decoder.build((None, None), None if context is None else (None, 2), (None, 4, 5), (None, 4, 3))
    randomize(decoder, seed)
    return decoder


def tensors(positions=4):
    """A context, a memory and its elements."""
    random = np.random.default_rng(3)
    shapes = ((3, 2), (3, positions, 5), (3, positions, 3))
    return [random.standard_normal(shape).astype("float32") for shape in shapes]


def given(mask=MASK):
    _, memory, elements = tensors()
    return {"memory": memory, "memory_mask": mask, "elements": elements}


def points_at(decoder, previous, context, memory, memory_mask, elements):
    """The probabilities of ids at every step: the paper's equations, row by row."""
    weights = numpy_models.weights_of(decoder.attention)
    start, end = (np.asarray(w, "float64") for w in (decoder.start, decoder.end))
    p = np.zeros((*previous.shape, memory.shape[1] + 2))
    for n, ids in enumerate(previous):
        x = np.array([start if k < 2 else elements[n, k - 2] for k in ids])[None]
        c = None if context is None else context[n : n + 1]
        if decoder.context == "both":
            x = np.concatenate([x, np.stack([c] * len(ids), axis=1)], axis=-1)
        states = None
        if decoder.into_state is not None:
            flat = np.tanh(numpy_models.dense(decoder.into_state, c))
            sizes = [size for (size,) in decoder.stack.state_shapes]
            states = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        d, _, _ = numpy_models.run(decoder.stack, x, states=states)
        for t in range(len(ids)):
            left = [j for j in range(memory.shape[1]) if memory_mask[n, j]]
            if decoder.visits != "any":
                left = [j for j in left if j + 2 not in ids[: t + 1]]
            possible = [j + 2 for j in left]
            if decoder.visits != "exactly_once" or not left:
                possible.append(1)
            u = []
            for k in possible:
                e = end if k == 1 else memory[n, k - 2]
                if "query_kernel" in weights:
                    compared = e @ weights["key_kernel"] + d[0, t] @ weights["query_kernel"]
                    u.append(weights["attention_v"] @ np.tanh(compared))
                else:
                    u.append(e @ weights["key_kernel"] @ d[0, t])
            p[n, t, possible] = numpy_models.softmax(np.array(u))
    return p


@op_by_op()
@pytest.mark.torch_backend
@pytest.mark.parametrize("visits", VISITS)
@pytest.mark.parametrize("options", OPTIONS, ids=["bahdanau", "deep", "luong"])
def test_the_distribution_of_all_steps_and_of_single_ones(options, visits):
    """Of sources that are whole, with gaps, and fully masked, where only the end is left."""
    decoder, (c, memory, elements) = new_decoder(visits, **options), tensors()
    c = None if decoder.context is None else c
    expected = points_at(decoder, READ, c, memory, MASK, elements)
    logits = ops.convert_to_numpy(decoder(READ, context=c, **given()))
    used = READ > 0
    np.testing.assert_allclose(numpy_models.softmax(logits)[used], expected[used], atol=1e-5)
    assert expected[2, 0, 1] == 1
    prepared = decoder.prepare_memory(memory, MASK, elements)
    stepped, weights, states = step_by_step(decoder, READ, c, prepared)
    np.testing.assert_allclose(numpy_models.softmax(stepped)[used], expected[used], atol=1e-5)
    np.testing.assert_allclose(weights[used], expected[used][:, 2:], atol=1e-5)
    # A prompt, read at once, gives the states of its steps; the last weights are those of a step.
    lengths = np.array([3, 2, 1])
    read = decoder.prefill(READ, states[0], c, np.arange(4) < lengths[:, None], **given())
    for n, length in enumerate(lengths):
        for a, b in zip(read[:-1], states[length][:-1], strict=True):
            np.testing.assert_allclose(a[n], b[n], atol=1e-5)


@pytest.mark.tensorflow
@op_by_op()
def test_gradients_equal_finite_differences():
    import tensorflow as tf

    wide = {"dtype": "float64"}
    decoder = PointerDecoder(
        [kerasrnn.GRU(4, **wide)], kerasrnn.BahdanauAttention(3, **wide), "at_most_once", **wide
    )
    decoder.build((None, None), (None, 2), (None, 4, 5), (None, 4, 3))
    randomize(decoder)
    c, memory, elements = (x.astype("float64") for x in tensors())
    targets = np.array([[4, 2, 5, 1], [4, 2, 1, 0], [1, 0, 0, 0]])
    source = [tf.constant(x) for x in (c, memory, elements)]

    def loss():
        c, memory, elements = source
        y = decoder(READ, context=c, memory=memory, memory_mask=MASK, elements=elements)
        chosen = tf.gather(tf.nn.log_softmax(y, axis=-1), targets, batch_dims=2)
        return -tf.reduce_sum(tf.where(targets > 0, chosen, 0.0))

    weights = decoder.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch(source)
        value = loss()
    *gradients, of_source = tape.gradient(value, [*(w.value for w in weights), source])
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
    # Where the source is masked, it has no gradient.
    for gradient in of_source[1:]:
        assert not np.asarray(gradient)[~MASK].any()
        assert np.asarray(gradient)[0].any()


def sequences(visits, mask):
    """Every sequence of at most three ids that ends, or has three."""
    for length in range(1, 4):
        for written in itertools.product(range(1, 6), repeat=length):
            ends = written[-1] == 1
            if 1 in written[:-1] or (not ends and length < 3):
                continue
            places = [k - 2 for k in written if k > 1]
            if not all(mask[j] for j in places):
                continue
            once = len({*places}) == len(places)
            whole = len(places) == mask.sum()
            if visits != "any" and not once:
                continue
            if visits == "exactly_once" and ends and not whole:
                continue
            yield list(written)


@op_by_op()
@pytest.mark.parametrize("visits", VISITS)
def test_a_beam_finds_the_best_of_all_sequences(visits):
    """Its scores are sums of the logarithms of the equations' probabilities, and so are those of
    the symbols; the attention is the probability of the positions."""
    decoder, (c, memory, elements) = new_decoder(visits), tensors()
    # Wide enough for all, and one hypothesis more than there may be.
    generator = kerasrnn.Generator(
        decoder,
        Beam(40, 0.5, n_best=5),
        3,
        1,
        1,
        return_lengths=True,
        return_log_probabilities=True,
        return_scores=True,
        return_attention=True,
    )
    symbols, lengths, log_p, scores, attention = map(np.asarray, generator(c, **given()))
    for row in range(3):
        found = []
        for written in sequences(visits, MASK[row]):
            previous = np.array([[1, *written[:-1]]])
            one = [x[row : row + 1] for x in (c, memory, MASK, elements)]
            p = points_at(decoder, previous, *one)[0]
            each = np.log(p[range(len(written)), written])
            found.append((each.sum() / ((5 + len(written)) / 6) ** 0.5, written, each, p))
        found.sort(key=lambda x: -x[0])
        for n, (score, written, each, p) in enumerate(found[:5]):
            length = len(written)
            assert symbols[row, n, : lengths[row, n]].tolist() == written
            np.testing.assert_allclose(scores[row, n], score, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(log_p[row, n, :length], each, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(attention[row, n, :length], p[:, 2:], atol=1e-5)
        assert (lengths[row, len(found) :] == 0).all()


@op_by_op()
def test_sampling_and_control():
    """Greedy choices are the most probable ones; samples, prompts, prefixes and rules."""
    decoder, (c, memory, elements) = new_decoder("exactly_once"), tensors()
    greedy = kerasrnn.Generator(decoder, None, 5, 1, 1)
    ids = np.asarray(greedy(c, **given()))
    previous = np.insert(np.where(ids == 1, 0, ids)[:, :-1], 0, 1, axis=1)
    p = points_at(decoder, previous, c, memory, MASK, elements)
    for n, count in enumerate((5, 3, 1)):
        assert ids[n, :count].tolist() == p[n, :count].argmax(axis=-1).tolist()
        assert not ids[n, count:].any()
    sample = kerasrnn.Generator(decoder, Sample(top_k=3), 5, 1, 1, seed=0)
    found = np.asarray(sample(c, **given()))
    assert np.sort(found[0]).tolist() == [1, 2, 3, 4, 5]
    assert np.sort(found[1]).tolist() == [0, 0, 1, 2, 4]
    prompt = np.array([[5, 3], [4, 0], [0, 0]])
    after = np.asarray(greedy(c, prompt=prompt, **given()))
    forced = np.asarray(greedy(c, prefix=prompt, **given()))
    assert forced[0, :5].tolist() == [5, 3, *after[0, :3]]
    assert forced[1, :3].tolist() == [4, *after[1, :2]] == [4, 2, 1]
    # Any position, but by a rule of the generator's none twice.
    free = new_decoder("any")
    rules = kerasrnn.Generator(free, Beam(3), 5, 1, 1, processors=[NoRepeatNGrams(1)])
    written = [k for k in np.asarray(rules(c, **given()))[0] if k > 1]
    assert len(written) == len({*written})


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@op_by_op()
def test_half_precision(dtype):
    """Impossible positions have finite logits, in float32."""
    decoder, c = new_decoder("exactly_once"), tensors()[0]
    half = new_decoder(
        "exactly_once", lambda: kerasrnn.BahdanauAttention(3, dtype=dtype), dtype=dtype
    )
    half.set_weights(decoder.get_weights())
    p, logits = ops.softmax(decoder(READ, context=c, **given())), half(READ, context=c, **given())
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(ops.softmax(logits), p, atol=0.03)
    ids = np.asarray(kerasrnn.Generator(half, Beam(2), 5, 1, 1)(c, **given()))
    assert np.sort(ids[0]).tolist() == [1, 2, 3, 4, 5]


@op_by_op()
def test_one_position_and_pointers_beyond_the_source():
    decoder = new_decoder("exactly_once")
    c, memory, elements = tensors(positions=1)
    ids = kerasrnn.Generator(decoder, Beam(2), 3, 1, 1)(c, memory=memory, elements=elements)
    assert np.asarray(ids).tolist() == [[2, 1, 0]] * 3
    wrong = np.array([[1, 4], [1, 2], [1, 2]])
    logits = np.asarray(decoder(wrong, context=c, memory=memory, elements=elements))
    assert np.isnan(logits[0, 1]).all()
    assert np.isfinite(np.delete(logits.reshape(6, -1), 1, axis=0)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visits": "twice"}, "visits='twice': expected"),
        ({"context": "first"}, "context='first': expected"),
        ({"attention": kerasrnn.CoverageAttention(3)}, "do not depend on the previous step"),
        ({"attention": kerasrnn.LuongAttention(window=2)}, "without a window"),
        ({"attention": kerasrnn.BahdanauAttention(3, normalization="entmax")}, "'softmax'"),
        ({"attention": "bahdanau"}, "attention='bahdanau': expected an attention"),
        ({"layers": [kerasrnn.Bidirectional(kerasrnn.GRU(3))]}, "unidirectional"),
        ({"dropout": 1.0}, "dropout=1.0: expected"),
    ],
)
def test_bad_options(options, message):
    options = {"layers": [kerasrnn.GRU(4)], "attention": kerasrnn.BahdanauAttention(3), **options}
    with pytest.raises(ValueError, match=message):
        PointerDecoder(**options)


def test_bad_calls():
    decoder, (c, memory, elements) = new_decoder(), tensors()
    with pytest.raises(ValueError, match="expected elements of the shape"):
        decoder(READ, context=c, memory=memory)
    with pytest.raises(ValueError, match=r"received the shape \(3, 2, 3\)"):
        decoder(READ, context=c, memory=memory, elements=elements[:, :2])
    with pytest.raises(ValueError, match="expects a memory"):
        decoder(READ, context=c, elements=elements)
    with pytest.raises(ValueError, match="end=None: expected 1, the end of pointers"):
        kerasrnn.Generator(decoder, max_length=3, start=1)
    with pytest.raises(ValueError, match="start=2: expected an id from 1 to 1"):
        kerasrnn.Generator(decoder, max_length=3, start=2, end=1)
    with pytest.raises(ValueError, match="source_ids were given; PointerDecoder does not read"):
        kerasrnn.Generator(decoder, None, 3, 1, 1)(c, source_ids=READ, **given())
    of_symbols = kerasrnn.Decoder(7, [kerasrnn.GRU(4)])
    with pytest.raises(ValueError, match="elements were given; Decoder does not read them"):
        kerasrnn.Generator(of_symbols, None, 3, 1, 2)(prompt=READ, elements=elements)
