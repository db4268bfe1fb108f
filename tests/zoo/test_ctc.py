"""Models with the output CTC: trained on a transcription whose alignment is unknown."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from tests.losses import ctc_oracle
from tests.measure import WITHOUT_XLA, op_by_op

LABELS, LONGEST = 4, 5


def recordings(rows, seed):
    """Labels as one to three noisy frames each, equal ones with a pause between; and the labels.

    Rows differ in length: they are padded with zeros, which the model masks.
    """
    random = np.random.default_rng(seed)
    x = np.zeros((rows, 4 * LONGEST, LABELS + 1), "float32")
    y = np.zeros((rows, LONGEST), "int32")
    for b in range(rows):
        labels = random.integers(1, LABELS + 1, random.integers(1, LONGEST + 1))
        frames = []
        for n, k in enumerate(labels):
            if n and labels[n - 1] == k:
                frames.append(0)
            frames += [k] * random.integers(1, 4)
        x[b, : len(frames)] = np.eye(LABELS + 1)[frames]
        x[b, : len(frames)] += 0.1 * random.standard_normal((len(frames), LABELS + 1))
        y[b, : len(labels)] = labels
    return x, y


def model_of(units=12):
    output = zoo.CTC(LABELS + 1)
    return zoo.many_to_many(zoo.Vectors(LABELS + 1, padding=0.0), output, "gru", units)


@pytest.mark.slow
@pytest.mark.traced
def test_it_learns_to_transcribe(tmp_path):
    """From most labels wrong to one in fifty, on rows that it was not trained on."""
    model = model_of()
    model.compile(keras.optimizers.Adam(0.02), jit_compile=WITHOUT_XLA)
    x, y = recordings(64, 1)

    def evaluated(model):
        with op_by_op():
            return model.evaluate(x, y, batch_size=64, verbose=0, return_dict=True)

    assert evaluated(model)["label_error_rate"] > 0.7
    model.fit(*recordings(256, 0), batch_size=32, epochs=12, verbose=0)
    after = evaluated(model)
    assert after["label_error_rate"] < 0.02
    # Saved and loaded, with its loss, its metric and its decoding.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert evaluated(again) == pytest.approx(after, rel=1e-4)
    with op_by_op():
        labels = zoo.decoded(again).predict(x, batch_size=64, verbose=0)
        p = model.predict(x, batch_size=64, verbose=0)
    read = [ctc_oracle.read(p[b, np.any(x[b] != 0, axis=-1)].argmax(-1)) for b in range(64)]
    assert [tuple(row[row > 0]) for row in labels] == read
    metric = kerasrnn.metrics.CharacterErrorRate()
    metric.update_state(y, labels)
    assert float(metric.result()) == pytest.approx(after["label_error_rate"])


def test_the_loss_is_that_of_the_valid_steps():
    """By enumeration; with weights of rows."""
    x, y = recordings(3, 2)
    x, y = x[:, :6], y[:, :2]
    model = model_of(3)
    model.compile("sgd", weighted_metrics=[], jit_compile=WITHOUT_XLA)
    p = model.predict(x, verbose=0).astype("float64")
    valid = np.any(x != 0, axis=-1)
    losses = [
        -np.log(ctc_oracle.enumerate_labels(p[b, valid[b]])[tuple(y[b][y[b] > 0])])
        for b in range(3)
    ]
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(
        np.mean(losses), rel=1e-4
    )
    weights = np.array([1.0, 0.0, 2.0])
    found = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(np.mean(losses * weights), rel=1e-4)


def test_its_configuration():
    output = zoo.CTC(5, impossible="zero")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(output))
    assert again == output
    assert again.loss(None).impossible == "zero"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.CTC(1), "count=1: expected an integer of at least 2"),
        (lambda: zoo.CTC(3, "error"), "impossible='error': expected 'warn' or 'zero'"),
        (
            lambda: zoo.many_to_many(zoo.Vectors(2), zoo.CTC(3), feedback=True),
            r"outputs=CTC\(count=3.*: expected zoo\.Classes, MultiLabel or Values",
        ),
    ],
)
def test_invalid_outputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_invalid_targets():
    model = model_of(2)
    model.compile("sgd")
    x = np.ones((2, 6, LABELS + 1), "float32")
    for y, message in (
        (np.full((2, 3), 5), r"y\[0, 0\]=5: expected an integer from 0 to 4"),
        (np.ones((2, 3, 5)), r"y has the shape \(2, 3, 5\): expected"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0)
