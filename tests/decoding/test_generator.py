"""Generation: each symbol is the one that the decoder predicts from those before it."""

import itertools

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.decoding import Bernoulli, Greedy, Identity, Sample, Threshold
from tests import numpy_models
from tests.catalogue import BY_NAME, variant_id
from tests.decoding.test_samplers import assert_drawn_from, truncated
from tests.measure import op_by_op, randomize

START, END = 1, 2


def new_decoder(kind="classes", size=6, context="state", row="GRU", seed=1, **options):
    decoder = kerasrnn.Decoder(size, [BY_NAME[row].layer(6)], kind, context=context, **options)
    frame = () if kind == "classes" else (size,)
    decoder.build((None, None, *frame), None if context is None else (None, 2))
    randomize(decoder, seed)
    return decoder


def contexts(rows=4):
    return 2 * np.random.default_rng(5).standard_normal((rows, 2)).astype("float32")


def log_softmax(logits):
    return np.log(numpy_models.softmax(logits))


def greedy_by_hand(decoder, context, fed, longest):
    """One row, with the whole sequence computed for every symbol."""
    written, log_probabilities = [], []
    while len(written) < longest and END not in written:
        logits = numpy_models.decode(decoder, np.array([[*fed, *written]]), context)[0, -1]
        written.append(1 + int(logits[1:].argmax()))
        log_probabilities.append(log_softmax(logits)[written[-1]])
    return written, log_probabilities


def assert_rows(results, expected, max_length):
    symbols, lengths, log_probabilities = map(np.asarray, results)
    assert symbols.shape == log_probabilities.shape == (len(expected), max_length)
    for n, (written, of_row) in enumerate(expected):
        rest = [0] * (max_length - len(written))
        assert symbols[n].tolist() == written + rest
        assert lengths[n] == len(written)
        np.testing.assert_allclose(log_probabilities[n], of_row + rest, atol=1e-5)


ALL = {"return_lengths": True, "return_log_probabilities": True}


@pytest.mark.parametrize("context", ["first", "every", "state", "both", None])
def test_greedy_is_the_argmax_of_the_whole_sequence(context):
    """For rows that end, rows that are cut, and an empty row."""
    decoder = new_decoder(context=context, row="LSTM", seed=4)
    generator = kerasrnn.Generator(decoder, max_length=7, start=START, end=END, **ALL)
    longest = [7, 3, 0, 7]
    c = contexts() if context else None
    expected = [
        greedy_by_hand(decoder, None if c is None else c[n : n + 1], [START], longest[n])
        for n in range(4)
    ]
    assert_rows(generator(c, max_lengths=np.array(longest)), expected, 7)


def test_rows_end_at_different_steps():
    decoder = new_decoder(seed=4)
    generator = kerasrnn.Generator(decoder, max_length=9, start=START, end=END, **ALL)
    expected = [greedy_by_hand(decoder, row[None], [START], 9) for row in contexts(24)]
    assert len({len(written) for written, _ in expected}) >= 3
    assert_rows(generator(contexts(24)), expected, 9)


@op_by_op()
@pytest.mark.parametrize("start", [START, None])
def test_prompts_of_different_lengths(start):
    """Each row continues its own prompt."""
    decoder = new_decoder(row="LSTM", context="every")
    prompts = [[3, 4, 5, 3], [5], [4, 3]] + ([[]] if start else [[1, 1, 1]])
    padded = np.array([prompt + [0] * (4 - len(prompt)) for prompt in prompts])
    generator = kerasrnn.Generator(decoder, max_length=5, start=start, end=END, **ALL)
    fed = [([start] if start else []) + prompt for prompt in prompts]
    c = contexts()
    expected = [greedy_by_hand(decoder, c[n : n + 1], fed[n], 5) for n in range(4)]
    assert_rows(generator(c, prompt=padded), expected, 5)
    lengths = np.array([len(prompt) for prompt in prompts])
    other = np.where(padded == 0, 5, padded)  # what follows the end is not read
    assert_rows(generator(c, prompt=other, prompt_lengths=lengths), expected, 5)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 3, "top_p": 0.9}])
def test_sampled_sequences_have_the_models_probabilities(options):
    """Every sequence of three symbols, with its exact probability; 20,000 draws."""
    decoder = new_decoder(size=5, context=None)
    draws = 20_000
    generator = kerasrnn.Generator(
        decoder, Sample(**options), max_length=3, start=START, end=END, seed=3, **ALL
    )
    symbols, _, log_probabilities = map(
        np.asarray, generator(max_lengths=np.full(draws, 3, "int32"))
    )
    possible, p, log_p = [], [], []
    for written in itertools.product(range(1, 5), repeat=3):
        length = written.index(END) + 1 if END in written else 3
        if written[length:] != (1,) * (3 - length):
            continue  # one for each that ends early
        logits = numpy_models.decode(decoder, np.array([[START, *written[:2]]]))[0]
        shares = [truncated([-1e9, *step[1:]], **options) for step in logits]
        p.append(np.prod([shares[t][written[t]] for t in range(length)]))
        log_p.append(sum(log_softmax(logits[t])[written[t]] for t in range(length)))
        possible.append([*written[:length], *[0] * (3 - length)])
    np.testing.assert_allclose(np.sum(p), 1)
    codes = symbols @ [25, 5, 1]
    counts = [(codes == np.array(row) @ [25, 5, 1]).sum() for row in possible]
    assert sum(counts) == draws
    assert_drawn_from(np.array(p), counts)
    for row, expected in zip(possible, log_p, strict=True):
        found = log_probabilities[(symbols == row).all(axis=1)].sum(axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_seeds():
    decoder, c = new_decoder(), contexts(50)

    def drawn(seed, calls=1):
        generator = kerasrnn.Generator(decoder, Sample(), max_length=2, start=START, seed=seed)
        return [np.asarray(generator(c)) for _ in range(calls)]

    first, second = drawn(1, calls=2)
    again = drawn(1, calls=2)
    np.testing.assert_array_equal([first, second], again)
    assert (first != second).any()
    assert (first != drawn(2)[0]).any()


def test_padding_is_never_generated():
    """Even if it is the most likely class."""
    decoder = new_decoder()
    kernel, bias = decoder.readout.get_weights()
    bias[0] = 50
    decoder.readout.set_weights([kernel, bias])
    for sampler in (Greedy(), Sample(), Sample(top_k=1), Sample(top_p=0.5)):
        generator = kerasrnn.Generator(decoder, sampler, max_length=2, start=START, **ALL)
        symbols, _, log_probabilities = map(np.asarray, generator(contexts()))
        assert (symbols > 0).all()
        assert (log_probabilities < -20).all()  # the model's own


def always_ending(decoder):
    kernel, bias = decoder.readout.get_weights()
    decoder.readout.set_weights([0 * kernel, 10 * (np.arange(len(bias)) == END)])


@pytest.mark.tensorflow
def test_the_loop_stops_when_every_row_has_ended(monkeypatch):
    """Steps are counted in eager calls, where the loop is Python's."""
    decoder, steps = new_decoder(), []
    step = kerasrnn.Decoder.step

    def counted(*given, **read):
        steps.append(1)
        return step(*given, **read)

    monkeypatch.setattr(kerasrnn.Decoder, "step", counted)
    generator = kerasrnn.Generator(decoder, max_length=50, start=START)
    generator(contexts(), max_lengths=np.array([1, 3, 2, 3]))
    assert len(steps) == 3
    always_ending(decoder)
    generator = kerasrnn.Generator(decoder, max_length=50, start=START, end=END)
    symbols = np.asarray(generator(contexts()))
    assert len(steps) == 4
    assert symbols[:, 0].tolist() == [END] * 4
    assert not symbols[:, 1:].any()


@op_by_op()
@pytest.mark.parametrize("sampler", [Threshold(0.4), Bernoulli(0.7)], ids=repr)
def test_flags(sampler):
    """Each frame is read by the next step; the prompts' lengths are given."""
    decoder = new_decoder("flags", size=4, context=None, row="LSTM")
    prompt = np.random.default_rng(0).integers(0, 2, (3, 4, 4)).astype("float32")
    lengths = [4, 1, 2]
    generator = kerasrnn.Generator(decoder, sampler, max_length=5, start=0, seed=7, **ALL)
    symbols, counts, log_probabilities = map(
        np.asarray, generator(prompt=prompt, prompt_lengths=np.array(lengths))
    )
    assert set(np.unique(symbols)) == {0.0, 1.0}
    assert counts.tolist() == [5, 5, 5]
    for n, length in enumerate(lengths):
        fed = np.concatenate([np.zeros((1, 4)), prompt[n, :length], symbols[n]])[None]
        p = numpy_models.sigmoid(numpy_models.decode(decoder, fed)[0, length : length + 5])
        chosen = symbols[n] == 1
        expected = np.where(chosen, np.log(p), np.log(1 - p)).sum(axis=-1)
        np.testing.assert_allclose(log_probabilities[n], expected, atol=1e-4)
        if isinstance(sampler, Threshold):
            np.testing.assert_array_equal(chosen, p >= 0.4)


def test_forecasts_are_read_by_the_next_step():
    decoder = new_decoder("values", size=2, context="first")
    c = contexts(2)
    generator = kerasrnn.Generator(
        decoder, Identity(), max_length=4, start=[0.5, -1.0], return_lengths=True
    )
    values, lengths = map(np.asarray, generator(c, max_lengths=np.array([4, 2])))
    fed = np.broadcast_to([0.5, -1.0], (2, 1, 2))
    for _ in range(4):
        fed = np.concatenate([fed, numpy_models.decode(decoder, fed, c)[:, -1:]], axis=1)
    np.testing.assert_allclose(values[0], fed[0, 1:], atol=1e-5)
    np.testing.assert_allclose(values[1], [*fed[1, 1:3], [0, 0], [0, 0]], atol=1e-5)
    assert lengths.tolist() == [4, 2]


@op_by_op()
def test_padding_of_frames_ends_a_prompt():
    decoder = new_decoder("values", size=2, context=None, padding=9.0)
    generator = kerasrnn.Generator(decoder, max_length=3)
    prompt = np.array([[[1, 0], [0, 1], [2, 2]], [[1, 0], [9, 9], [9, 9]]], "float32")
    together = np.asarray(generator(prompt=prompt))
    np.testing.assert_allclose(together[1:], generator(prompt=prompt[1:, :1]), atol=1e-6)


def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    generator = kerasrnn.Generator(new_decoder(), max_length=4, start=START, **ALL)
    symbols, _, log_probabilities = generator(contexts())
    assert keras.backend.standardize_dtype(symbols.dtype) == "int32"
    assert (np.asarray(symbols) > 0).all()
    assert np.isfinite(np.asarray(log_probabilities)).all()


def test_configuration():
    generator = kerasrnn.Generator(
        new_decoder(), Sample(0.5), 9, START, END, seed=4, return_lengths=True
    )
    config = keras.saving.serialize_keras_object(generator)
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again.sampler) == repr(generator.sampler)
    for name in ("max_length", "start", "end", "seed", "return_lengths"):
        assert getattr(again, name) == getattr(generator, name)
    assert not again.return_log_probabilities
    assert again.decoder.context == "state"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: kerasrnn.Generator(kerasrnn.GRU(2)), r"expected a kerasrnn\.Decoder"),
        (
            lambda d: kerasrnn.Generator(d, Bernoulli()),
            r"sampler=Bernoulli\(temperature=1.0\): expected one of classes",
        ),
        (lambda d: kerasrnn.Generator(d, "greedy"), "sampler='greedy': expected one of classes"),
        (lambda d: kerasrnn.Generator(d, max_length=0), "max_length=0: expected a positive int"),
        (lambda d: kerasrnn.Generator(d, start=0), "start=0: expected an id from 1 to 5"),
        (lambda d: kerasrnn.Generator(d, end=6), "end=6: expected an id from 1 to 5"),
        (lambda d: kerasrnn.Generator(d)(contexts()), "start=None: expected a prompt"),
        (
            lambda d: kerasrnn.Generator(d, start=1)(max_lengths=np.array([2])),
            r"context='state' expects one vector per row",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder(context=None), start=1).call(),
            "expected a context, a memory, a prompt or max_lengths",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder("flags"), end=3),
            "end=3: flags have no end; expected None",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder("flags", 3), start=[0, 1]),
            "start has 2 entries; expected one, or 3, the width of a frame",
        ),
        (
            lambda d: kerasrnn.Generator(new_decoder("values"), return_log_probabilities=True),
            "return_log_probabilities=True: values without a distribution have no",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(new_decoder())
