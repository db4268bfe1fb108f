"""Generation in every mode of execution: the results are those of the eager call."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.decoding import Beam, ForbiddenSymbols, NoRepeatNGrams, RepetitionPenalty, Sample
from kerasrnn.decoding.loop import without_finished_rows
from tests.decoding.test_generator import ALL, END, START, contexts, new_decoder

PROMPT = np.array([[3, 4], [5, 0], [0, 0], [4, 4]], "int32")
PREFIX = np.array([[3, 1, 4], [5, 0, 0], [0, 0, 0], [4, END, 5]], "int32")
RULES = [ForbiddenSymbols([START]), NoRepeatNGrams(2), RepetitionPenalty(1.5)]
BATCHES = ([contexts(), PROMPT, PREFIX], [contexts(1), PROMPT[:1, :1], PREFIX[:1, :1]])


def searching(sampler, **options):
    """A generator with every rule."""
    decoder = new_decoder(row="LSTM", seed=4)
    return kerasrnn.Generator(
        decoder, sampler, 6, START, END, min_length=2, processors=RULES, **ALL, **options
    )


def sampling(sampler):
    return kerasrnn.Generator(new_decoder(), sampler, 3, START, END, seed=5, **ALL)


def new_inputs():
    return {
        "context": keras.Input((2,), name="context"),
        "prompt": keras.Input((None,), dtype="int32", name="prompt"),
        "prefix": keras.Input((None,), dtype="int32", name="prefix"),
    }


@pytest.fixture(scope="module")
def model():
    """A beam search with a prompt and a prefix; and samples."""
    inputs, beam = new_inputs(), Beam(4, 0.6, n_best=2)
    found = searching(beam, return_scores=True, name="search")(**inputs)
    drawn = sampling(Sample(0.8, 4, 0.95))(inputs["context"])
    return keras.Model(list(inputs.values()), [*found, *drawn])


def seeds(model):
    return [v for v in model.variables if "seed" in v.name]


@pytest.fixture(scope="module")
def expected(model):
    """The results of the eager calls, from the seeds that the model has before and after."""
    before = [np.asarray(v) for v in seeds(model)]
    results = [[np.asarray(y) for y in model(batch)] for batch in BATCHES]
    assert any((np.asarray(v) != old).any() for v, old in zip(seeds(model), before, strict=True))
    for v, old in zip(seeds(model), before, strict=True):
        v.assign(old)
    assert [y.shape[1:] for y in model.outputs] == [y.shape[1:] for y in results[0]]
    assert len(set(np.ravel(results[0][1]))) > 1
    return results


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_compiled_by_xla(model, expected):
    """XLA may draw other numbers; a sample of the most likely class is greedy."""
    *found, _, _, _ = model.outputs
    compiled = keras.Model(model.inputs, [*found, *sampling(Sample(top_k=1))(model.inputs[0])])
    compiled.compile(jit_compile=True)
    greedy = sampling(None)(BATCHES[0][0])
    assert_same(compiled.predict_on_batch(BATCHES[0]), [*expected[0][: len(found)], *greedy])


def test_saved_and_loaded(model, expected, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    search, sample = (layer for layer in loaded.layers if isinstance(layer, kerasrnn.Generator))
    assert repr(search.sampler) == repr(Beam(4, 0.6, 0.0, 2))
    assert repr(sample.sampler) == repr(Sample(0.8, 4, 0.95))
    assert repr(search.processors) == repr(RULES)
    assert (search.min_length, search.return_scores) == (2, True)
    for batch, right in zip(BATCHES, expected, strict=True):
        assert_same(loaded(batch), right)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "sampler", [None, Sample(), Beam(3, 0.6, n_best=2)], ids=["greedy", "sample", "beam"]
)
def test_finished_rows_are_not_computed(sampler):
    import tensorflow as tf

    options = {**ALL, "return_scores": isinstance(sampler, Beam)}
    decoder, rows = new_decoder(seed=4), []
    generate = kerasrnn.Generator(
        decoder, sampler, 9, START, END, seed=3, processors=RULES, **options
    )
    context, max_lengths = contexts(12), np.array([9, 0, 3, 1, 9, 2, 9, 4, 2, 3, 1, 9], "int32")
    random = [np.asarray(seed) for seed in seeds(generate)]
    expected = generate(context, max_lengths=max_lengths)
    for seed, before in zip(seeds(generate), random, strict=True):
        seed.assign(before)
    step = decoder.step

    def counted(previous, *arguments, **named):
        tf.py_function(lambda count: rows.append(int(count)), [tf.shape(previous)[0]], [])
        return step(previous, *arguments, **named)

    decoder.step = counted

    @tf.function(input_signature=[tf.TensorSpec((None, 2)), tf.TensorSpec((None,), "int32")])
    def selecting(context, max_lengths):
        with without_finished_rows():
            return generate(context, max_lengths=max_lengths)

    assert_same(selecting(context, max_lengths), expected)
    width = sampler.width if isinstance(sampler, Beam) else 1
    assert rows[0] == 11 * width  # one has no symbols
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] <= 6 * width


@pytest.mark.tensorflow
def test_saved_model(model, expected, tmp_path):
    """Batches, prompts and prefixes have any size; the random numbers are those of the model."""
    import tensorflow as tf

    from kerasrnn.export import to_saved_model

    to_saved_model(model, tmp_path / "model", check=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for batch, right in zip(BATCHES, expected, strict=True):
        assert_same(loaded.serve(batch), right)


@pytest.mark.tensorflow
def test_onnx(tmp_path):
    import onnxruntime

    from kerasrnn.export import to_onnx

    inputs, greedy = new_inputs(), searching(None)
    model = keras.Model(list(inputs.values()), greedy(**inputs))
    to_onnx(model, tmp_path / "model.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch in BATCHES:
        named = dict(zip(inputs, batch, strict=True))
        assert_same(session.run(None, named), greedy(**named))
