"""Schedules by the paper's formulas; the symbols read, computed one after the other."""

import math

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.decoding import Sample, ScheduledSampling
from kerasrnn.losses import SequenceCrossentropy
from tests import numpy_models
from tests.measure import op_by_op

PREVIOUS = np.array([[1, 3, 4, 2, 5], [1, 2, 6, 0, 0]], "int32")
CONTEXT = np.random.default_rng(0).standard_normal((2, 3)).astype("float32")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduledSampling("linear", slope=0.001, floor=0.25), lambda i: max(0.25, 1 - 0.001 * i)),
        (ScheduledSampling("exponential", k=0.999), lambda i: 0.999**i),
        (ScheduledSampling(k=200, floor=0.1), lambda i: max(0.1, 200 / (200 + math.exp(i / 200)))),
    ],
    ids=["linear", "exponential", "inverse_sigmoid"],
)
def test_schedules(schedule, expected):
    for i in (0, 1, 10, 500, 2000):
        np.testing.assert_allclose(schedule.epsilon(i), expected(i), rtol=1e-4)
    assert float(schedule.epsilon(10**9)) == pytest.approx(schedule.floor)
    again = ScheduledSampling.from_config(schedule.get_config())
    assert again.get_config() == schedule.get_config()


def new_decoder(sampling=None, **options):
    keras.utils.set_random_seed(3)
    decoder = kerasrnn.Decoder(7, [kerasrnn.GRU(5)], context="state", sampling=sampling, **options)
    decoder.build(PREVIOUS.shape, CONTEXT.shape)
    return decoder


def draws(seed):
    """The random numbers of one call: one to choose by, and one to draw by."""
    generator = keras.random.SeedGenerator(seed)
    return [np.asarray(keras.random.uniform(PREVIOUS.shape, seed=generator)) for _ in range(2)]


@op_by_op()
@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_as_many_passes_as_steps_read_one_symbol_after_the_other(floor):
    """The procedure of Bengio et al., step by step, with the same random numbers."""
    decoder = new_decoder()
    schedule = ScheduledSampling("linear", slope=1.0, floor=floor, passes=4)
    read = schedule.mixed(
        PREVIOUS, lambda x: decoder(x, context=CONTEXT), 10, keras.random.SeedGenerator(8)
    )
    coins, noise = draws(8)
    states, symbol = decoder.initial_states(CONTEXT), PREVIOUS[:, 0]
    expected = [symbol]
    for t in range(1, PREVIOUS.shape[1]):
        logits, states = decoder.step(symbol, states, CONTEXT)
        logits = np.where(np.arange(7) == 0, -1e30, logits).astype("float32")
        drawn = np.asarray(Sample()(logits, noise[:, t - 1]))
        true = (coins[:, t] < floor) | (PREVIOUS[:, t] == 0)
        symbol = np.where(true, PREVIOUS[:, t], drawn).astype("int32")
        expected.append(symbol)
    np.testing.assert_array_equal(read, np.stack(expected, axis=1))
    assert (np.asarray(read) != PREVIOUS).any()
    assert ((np.asarray(read) == 0) == (PREVIOUS == 0)).all()


@op_by_op()
def test_a_training_call_reads_the_mixed_symbols():
    """It counts its steps. Inference reads the true symbols."""
    schedule = ScheduledSampling("linear", slope=0.5, floor=0.0)
    decoder, plain = new_decoder(schedule, seed=4), new_decoder()
    plain.set_weights([w for w in decoder.get_weights() if w.dtype != np.int32])
    first = decoder(PREVIOUS, context=CONTEXT, training=True)  # epsilon is 1
    np.testing.assert_allclose(first, plain(PREVIOUS, context=CONTEXT), atol=1e-6)
    assert int(decoder.sampling_steps.value) == 1
    decoder.sampling_seed.state.assign(keras.random.SeedGenerator(11).state)
    second = decoder(PREVIOUS, context=CONTEXT, training=True)  # epsilon is a half
    read = schedule.mixed(
        PREVIOUS, lambda x: plain(x, context=CONTEXT), 1, keras.random.SeedGenerator(11)
    )
    expected = numpy_models.decode(plain, np.asarray(read)[:1], CONTEXT[:1])
    np.testing.assert_allclose(np.asarray(second)[:1], expected, atol=1e-5)
    assert (np.asarray(read) != PREVIOUS).any()
    np.testing.assert_allclose(
        decoder(PREVIOUS, context=CONTEXT), plain(PREVIOUS, context=CONTEXT), atol=1e-6
    )
    assert int(decoder.sampling_steps.value) == 2


@pytest.mark.tensorflow
def test_training_counts_its_steps_and_saves_them(tmp_path):
    schedule = ScheduledSampling("exponential", k=0.5)
    previous, context = keras.Input((None,), dtype="int32"), keras.Input((3,))
    decoder = kerasrnn.Decoder(7, [kerasrnn.GRU(4)], context="state", sampling=schedule)
    model = keras.Model([previous, context], decoder(previous, context))
    model.compile("sgd", SequenceCrossentropy(from_logits=True), jit_compile=False)
    target = np.roll(PREVIOUS, -1, axis=1)
    losses = [model.train_on_batch([PREVIOUS, CONTEXT], target) for _ in range(2)]
    assert np.isfinite(losses).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert int(decoder.sampling_steps.value) == int(loaded.sampling_steps.value) == 2
    assert loaded.sampling.get_config() == schedule.get_config()
    np.testing.assert_array_equal(loaded(PREVIOUS, CONTEXT), model([PREVIOUS, CONTEXT]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cosine"}, "kind='cosine': expected one of 'linear'"),
        ({"kind": "linear"}, "slope=None: expected a positive number"),
        ({"kind": "linear", "slope": 0.1, "k": 2}, "k=2.0: expected None with kind='linear'"),
        ({"kind": "exponential", "k": 1}, "k=1.0: expected a number below 1"),
        ({"k": 0.5}, "k=0.5: expected 1 or more"),
        ({"k": 5, "floor": 2}, r"floor=2: expected a number in \[0, 1\]"),
        ({"k": 5, "passes": 0}, "passes=0: expected a positive integer"),
    ],
)
def test_bad_schedules(options, message):
    with pytest.raises(ValueError, match=message):
        ScheduledSampling(**options)


def test_a_decoder_of_frames_has_no_sampling():
    with pytest.raises(ValueError, match="expected None with kind='flags'"):
        kerasrnn.Decoder(3, [kerasrnn.GRU(2)], "flags", sampling=ScheduledSampling(k=9))
    with pytest.raises(ValueError, match=r"sampling=0\.5: expected a ScheduledSampling"):
        kerasrnn.Decoder(3, [kerasrnn.GRU(2)], sampling=0.5)
