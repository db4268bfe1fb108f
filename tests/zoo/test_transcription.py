"""`zoo.transcriber` and `zoo.Transcriber`: trained, in batches, in chunks, saved, exported."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from tests.catalogue import variant_id
from tests.heads import transducer_oracle
from tests.zoo.test_ctc import LABELS, recordings

LETTERS = list("abcd")
HEADS = ("ctc", "transducer")


def model_of(head, **options):
    """With random weights that write some labels."""
    keras.utils.set_random_seed(3)
    arguments = {"units": 6, "subsampling": 2, **options}
    inputs = arguments.pop("inputs", zoo.Vectors(3))
    model = zoo.transcriber(inputs, zoo.Classes(len(LETTERS) + 1), "gru", head, **arguments)
    random = np.random.default_rng(2)
    model.set_weights([random.standard_normal(w.shape) for w in model.get_weights()])
    return model


def sequences(*lengths):
    random = np.random.default_rng(0)
    return [random.standard_normal((n, 3)).astype("float32") for n in lengths]


def test_the_model_is_the_encoder_with_the_head():
    """With subsampling: each step has two frames. The labels are those of NumPy's search."""
    model = zoo.transcriber(
        zoo.Vectors(3), zoo.Classes(3), "simple_rnn", "transducer", units=4, subsampling=2
    )
    random = np.random.default_rng(4)
    model.set_weights([1.5 * random.standard_normal(w.shape) for w in model.get_weights()])
    weights = transducer_oracle.Weights.of(model.layers[-1])
    kernel, recurrent, bias = (np.asarray(w) for w in model.get_layer("encoder").get_weights())
    transcriber = zoo.Transcriber(model, ["x", "yy"], separator="-")
    written = 0
    rows = sequences(5, 8, 2)
    for x, found in zip(rows, transcriber.explain(rows), strict=True):
        h, frames = np.zeros(4), []
        for step in np.pad(x, ((0, len(x) % 2), (0, 0))).reshape(-1, 6):
            h = np.tanh(step @ kernel + h @ recurrent + bias)
            frames.append(h)
        labels, times, score = transducer_oracle.greedy(weights, np.array(frames), 5)
        assert found.symbols == [["x", "yy"][k - 1] for k in labels]
        assert found.text == "-".join(found.symbols)
        assert found.times == [2 * t for t in times]
        assert found.score == pytest.approx(score, abs=1e-4)
        written += len(labels)
    assert written > 3


@pytest.mark.parametrize("head", HEADS)
def test_batches_and_chunks_have_the_results_of_single_sequences(head):
    """Sequences of different lengths; chunks of odd lengths, with two frames for each step."""
    transcriber = zoo.Transcriber(model_of(head), LETTERS)
    rows = sequences(9, 4, 13, 1)
    for options in ({}, {"beam": 3}):
        together = transcriber.explain(rows, **options)
        assert len("".join(each.text for each in together)) > 3
        for x, expected in zip(rows[:2], together, strict=False):
            (alone,) = transcriber.explain([x], **options)
            assert alone._replace(score=0) == expected._replace(score=0)
            assert alone.score == pytest.approx(expected.score, abs=1e-4)
        stream = transcriber.stream(**options)
        texts = [stream.read(chunk) for chunk in np.split(rows[2], [1, 4, 10])]
        found = stream.finish()
        assert texts[0] == ""  # half of a step
        assert found._replace(score=0) == together[2]._replace(score=0)
        assert found.score == pytest.approx(together[2].score, abs=1e-4)
    with pytest.raises(ValueError, match="chunk: the stream is finished"):
        stream.read(rows[0])
    several = transcriber.transcribe(rows, beam=4, n_best=2)
    assert [each[0] for each in several] == transcriber.transcribe(rows, beam=4)
    assert all(len(each) == 2 and each[0] != each[1] for each in several)
    # What is 0 is padding to the model: it is read in a batch, and in a call.
    padded = keras.utils.pad_sequences(rows, padding="post", dtype="float32")
    texts = transcriber.transcribe(rows)
    assert [transcriber.text(ids) for ids in transcriber.predict(padded, verbose=0)] == texts
    assert [transcriber.text(ids) for ids in np.asarray(transcriber(padded))] == texts


def test_words_are_texts_or_ids():
    transcriber = zoo.Transcriber(model_of("ctc"), LETTERS)
    x = np.random.default_rng(2).normal(size=(2, 9, 3)).astype("float32")
    texts = transcriber.transcribe(x, beam=4, word_list=["ab", "c"], separator="d")
    assert any(texts)
    assert {word for text in texts for word in text.split("d")} <= {"ab", "c", ""}
    assert texts == transcriber.transcribe(x, beam=4, word_list=[[1, 2], [3]], separator=4)


def test_without_a_padding_value_only_equal_lengths_are_together():
    transcriber = zoo.Transcriber(model_of("ctc", inputs=zoo.Vectors(3, padding=None)), LETTERS)
    rows = sequences(9, 4, 9, 6)
    assert transcriber.transcribe(rows) == [transcriber.transcribe([x])[0] for x in rows]


def test_sound_in_chunks():
    """Windows of samples overlap, and what is left of one waits for the next chunk."""
    features = kerasrnn.LogMel(3, sampling_rate=1000, frame_length=20, frame_step=10)
    transcriber = zoo.Transcriber(model_of("transducer"), LETTERS, features=features)
    random = np.random.default_rng(1)
    waves = [random.standard_normal(n).astype("float32") for n in (137, 64)]
    expected = transcriber.explain(waves)
    assert len(expected[0].text) > 1
    stream = transcriber.stream()
    for chunk in np.split(waves[0], [5, 26, 27, 90]):
        stream.read(chunk)
    assert stream.finish()._replace(score=0) == expected[0]._replace(score=0)
    reader = transcriber.reader()
    labels = reader.predict(waves[0][None], verbose=0)
    assert transcriber.text(labels[0]) == expected[0].text
    centered = kerasrnn.LogMel(3, sampling_rate=1000, center=True)
    with pytest.raises(ValueError, match=r"features: center=True of .* depends on the whole"):
        zoo.Transcriber(model_of("ctc"), LETTERS, features=centered).stream()
    other = keras.layers.Reshape((-1, 3))
    with pytest.raises(ValueError, match="is a Reshape; expected a kerasrnn"):
        zoo.Transcriber(model_of("ctc"), LETTERS, features=other).stream()


@pytest.mark.tensorflow
def test_a_reader_of_waveforms_is_exported(tmp_path):
    """To ONNX, with its features and its search: onnxruntime answers what `transcribe` does."""
    import onnxruntime

    features = kerasrnn.LogMel(num_mel_bins=3, sampling_rate=800)
    model = model_of("transducer", inputs=zoo.Vectors(3, padding=None), subsampling=1)
    transcriber = zoo.Transcriber(model, LETTERS, features=features)
    reader = transcriber.reader()
    kerasrnn.export.to_onnx(reader, tmp_path / "reader.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "reader.onnx")
    x = np.random.default_rng(5).standard_normal((3, 100)).astype("float32")
    (ids,) = session.run(None, {session.get_inputs()[0].name: x})
    expected = transcriber.transcribe(list(x))
    assert len("".join(expected)) > 5
    assert [transcriber.text(row) for row in ids] == expected


@pytest.mark.parametrize("head", HEADS)
def test_it_is_saved_and_loaded(head, tmp_path):
    features = kerasrnn.LogMel(3, sampling_rate=1000, frame_length=20, frame_step=10)
    transcriber = zoo.Transcriber(model_of(head), LETTERS, features=features)
    transcriber.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    random = np.random.default_rng(1)
    waves = [random.standard_normal(n).astype("float32") for n in (137, 64)]
    assert again.explain(waves, beam=2) == transcriber.explain(waves, beam=2)
    assert again.get_config()["symbols"] == LETTERS


@pytest.mark.slow
@pytest.mark.traced
def test_it_learns_to_transcribe():
    """A transducer, on rows that it was not trained on."""
    model = zoo.transcriber(
        zoo.Vectors(LABELS + 1), zoo.Classes(LABELS + 1), "gru", "transducer", units=16
    )
    x, y = recordings(256, 0)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    model.fit([x, y], y, batch_size=32, epochs=15, verbose=0)
    x, y = recordings(64, 1)
    transcriber = zoo.Transcriber(model, LETTERS)
    rows = [row[np.any(row != 0, axis=-1)] for row in x]
    expected = [transcriber.text(row) for row in y]
    np.testing.assert_array_equal(transcriber.labels(expected), y[:, : max(map(len, expected))])
    texts = transcriber.transcribe(rows, beam=4)
    assert np.mean([a == b for a, b in zip(texts, expected, strict=True)]) > 0.8
    labels = zoo.decoded(model).predict(x, verbose=0)
    assert [transcriber.text(row) for row in labels] == transcriber.transcribe(rows)


@pytest.mark.parametrize("head", HEADS)
def test_weights_of_rows(head):
    """The loss is the mean of those of the rows, each times its weight."""
    model = model_of(head)
    model.compile("sgd", run_eagerly=True)
    x = np.stack(sequences(8, 8, 8))
    y = np.array([[1, 2], [4, 0], [3, 3]], "int32")
    inputs = x if head == "ctc" else [x, y]
    loss = {"ctc": kerasrnn.losses.CTC, "transducer": kerasrnn.losses.Transducer}[head]
    of_rows = keras.ops.convert_to_numpy(loss(reduction=None)(y, model(inputs)))
    weights = np.array([1.0, 0.5, 0.0])
    for sample_weight in (weights, weights[:, None]):
        found = model.test_on_batch(inputs, y, sample_weight=sample_weight, return_dict=True)
        np.testing.assert_allclose(found["loss"], np.mean(weights * of_rows), rtol=1e-5)
    with pytest.raises(ValueError, match=r"\(3, 2\): expected \(batch,\) or \(batch, 1\)"):
        model.test_on_batch(inputs, y, sample_weight=np.ones((3, 2)))


def test_a_list_of_words_may_change():
    transcriber = zoo.Transcriber(model_of("ctc"), LETTERS)
    words = [[1]]
    assert set(transcriber.transcribe(sequences(8), 4, word_list=words)[0]) == {"a"}
    words[0] = [2]
    assert set(transcriber.transcribe(sequences(8), 4, word_list=words)[0]) == {"b"}


def test_a_bad_chunk_is_left_out():
    """The stream goes on without it, and empty chunks change nothing."""
    features = kerasrnn.LogMel(3, 1000)
    transcriber = zoo.Transcriber(model_of("transducer"), LETTERS, features=features)
    waveform = np.random.default_rng(1).normal(size=200).astype("float32")
    stream = transcriber.stream()
    for chunk, message in (
        (np.full(30, np.nan), r"chunk\[0\]=nan: expected a number that is finite"),
        (np.ones((1, 30)), r"chunk has the shape \(1, 30\): expected a waveform"),
        (np.arange(30), "chunk is of int64: expected a waveform of floating-point"),
        (None, "chunk=None: expected an array"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.read(chunk)
        stream.read(waveform[:0])
    stream.read(waveform[:90])
    stream.read(waveform[90:])
    assert stream.finish().symbols == transcriber.explain([waveform])[0].symbols
    stream = zoo.Transcriber(model_of("ctc"), LETTERS).stream()
    with pytest.raises(ValueError, match=r"chunk has the shape \(2, 4\): expected \(time, 3\)"):
        stream.read(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"chunk\[1, 2\]=nan: expected a number that is finite"):
        stream.read([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]])


CTC_MODEL = zoo.transcriber(zoo.Vectors(3), zoo.Classes(5), "gru", units=2, bidirectional=True)
TRANSCRIBER = zoo.Transcriber(CTC_MODEL, LETTERS)
X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: zoo.transcriber(zoo.Vectors(3), zoo.Classes(5), head="crf"),
            "head='crf': expected 'ctc' or 'transducer'",
        ),
        (
            lambda: zoo.transcriber(zoo.Vectors(3), zoo.CTC(5), head="transducer"),
            "expected zoo.Classes or zoo.Transducer for head='transducer'",
        ),
        (
            lambda: zoo.transcriber(zoo.Vectors(3), zoo.Values(5)),
            r"outputs=Values\(count=5, .*zoo\.CTC",
        ),
        (
            lambda: zoo.transcriber(zoo.Vectors(3), zoo.Classes(5), prediction_units=3),
            "prediction_units=3: expected None with head='ctc'",
        ),
        (lambda: zoo.Transducer(1), "count=1: expected an integer of at least 2"),
        (
            lambda: zoo.Transcriber(zoo.next_step(zoo.Classes(5), units=2), LETTERS),
            "expected a model of zoo.transcriber",
        ),
        (lambda: zoo.Transcriber(CTC_MODEL, "abcd"), "symbols='abcd': expected a list"),
        (lambda: zoo.Transcriber(CTC_MODEL, list("abc")), "has 5 classes; expected 4"),
        (lambda: zoo.Transcriber(CTC_MODEL, list("abca")), "'a' occurs more than once"),
        (lambda: TRANSCRIBER.stream(), "reads the whole sequence"),
        (lambda: TRANSCRIBER.stream(0), "beam=0: expected a positive integer"),
        (lambda: TRANSCRIBER.transcribe(None), "sequences=None: expected a list of arrays"),
        (lambda: TRANSCRIBER.transcribe([X], width=5), "width=5: not an option of CTCGreedy"),
        (lambda: TRANSCRIBER.transcribe([X], 2, width=5), "width=5: not an option of CTCBeam"),
        (lambda: TRANSCRIBER.transcribe([X], 2, blank=1), "blank=1: not an option of CTCBeam"),
        (lambda: TRANSCRIBER.reader(3, n_best=2), "n_best=2: not an option of CTCBeam"),
        (lambda: TRANSCRIBER.transcribe([np.full((2, 3), np.inf)]), r"sequences\[0\]\[0, 0\]=inf"),
        (lambda: TRANSCRIBER.text([1, 7]), r"ids\[1\]=7: expected an integer from -1 to 4"),
        (lambda: TRANSCRIBER.text([[1]]), r"ids of the shape \(1, 1\): expected one row"),
        (
            lambda: TRANSCRIBER.labels(["ab", "ae"]),
            r"texts\[1\]='ae': 'e' is not one of the symbols",
        ),
        (
            lambda: TRANSCRIBER.transcribe([np.ones((2, 3)), np.ones(3)]),
            r"sequences\[1\] has the shape \(3,\): expected \(time, 3\)",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).transcribe([np.ones((2, 5))]),
            r"sequences\[0\] has the shape \(2, 5\): expected \(time, 3\)",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).transcribe([np.ones((2, 3))], 2, n_best=3),
            "n_best=3: expected at most 2, the width of the beam",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).reader(word_list=["a"]),
            r"word_list=\['a'\]: not an option of CTCGreedy, .*beam=1; expected no options",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).reader(2, word_list=["a", "ae"]),
            r"word_list\[1\]='ae': 'e' is not one of the symbols",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).reader(2, word_list="ab"),
            "word_list='ab': expected a list of words",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).reader(2, word_list=["a"], separator=" "),
            "separator=' ': expected one of the symbols or an id",
        ),
        (
            lambda: zoo.Transcriber(CTC_MODEL, LETTERS).text(np.ones((1, 2), int)),
            r"ids of the shape \(1, 2\): expected one row",
        ),
        (
            lambda: zoo.Transcriber(
                CTC_MODEL, LETTERS, features=kerasrnn.LogMel(3, sampling_rate=1000)
            ).transcribe([np.zeros(50, "int16")]),
            r"sequences\[0\] is of int16: expected a waveform of floating-point .* 32768",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
