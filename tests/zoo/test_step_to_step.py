"""`many_to_many` and `next_step`: their values in NumPy, training, exports, errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import Bernoulli
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import variant_id
from tests.measure import op_by_op
from tests.zoo.models import assert_exports, assert_exports_to_onnx, assert_saves, learn

IDS = np.array([[3, 8, 1, 3, 2], [5, 1, 4, 0, 0], [2, 2, 2, 2, 0]])


def expected_of(model, outputs, x, mask=None):
    h, _, _ = numpy_models.run(model.get_layer("recurrent"), x, mask)
    return numpy_models.ACTIVATIONS[outputs.kind](numpy_models.dense(model.layers[-1], h))


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"depth": 2, "bidirectional": True}, zoo.Classes(3)),
        ({"depth": 3, "residual": True}, zoo.MultiLabel(3)),
        ({"cell": kerasrnn.MGUCell}, zoo.Values(3)),
    ],
    ids=variant_id,
)
def test_classes_labels_and_values(options, outputs, tmp_path):
    model = zoo.many_to_many(zoo.Tokens(9, 4), outputs, units=5, dropout=0.3, **options)
    (table,) = model.get_layer("embedding").get_weights()
    y = model(IDS)
    used = IDS != 0
    expected = expected_of(model, outputs, table[IDS], used)
    np.testing.assert_allclose(np.asarray(y)[used], expected[used], atol=1e-6)
    np.testing.assert_array_equal(get_keras_mask(y), used)
    assert_saves(model, IDS, tmp_path)


def test_losses_ignore_padding():
    model = zoo.many_to_many(zoo.Tokens(9, 4), zoo.Classes(3), "gru", 5)
    loss = "sparse_categorical_crossentropy"
    model.compile(loss=loss, weighted_metrics=["accuracy"], jit_compile=False)
    y = np.zeros_like(IDS)
    loss, accuracy = model.evaluate(IDS, y, verbose=0)
    p = np.asarray(model(IDS))[IDS != 0]
    # Keras divides by the number of valid steps.
    np.testing.assert_allclose(loss, -np.log(p[:, 0]).mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (p.argmax(axis=-1) == 0).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("depth", "outputs"),
    [(1, zoo.Classes(3)), (2, zoo.MultiLabel(2)), (2, zoo.Values(2))],
    ids=repr,
)
def test_feedback(depth, outputs, tmp_path):
    """The output of a step is concatenated to the input of the next."""
    model = zoo.many_to_many(zoo.Vectors(4), outputs, "lstm", 5, depth=depth, feedback=True)
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype("float32")
    below = x if depth == 1 else numpy_models.run(model.get_layer("recurrent"), x)[0]
    np.testing.assert_allclose(
        model(x), numpy_models.run_feedback(model.layers[-1], below), atol=1e-5
    )
    assert_saves(model, x, tmp_path)


@pytest.mark.parametrize("feedback", [False, True])
def test_stateful_segments_are_one_sequence(feedback):
    options = {"stateful": True, "batch_size": 2, "feedback": feedback}
    model = zoo.many_to_many(zoo.Vectors(3, padding=None), zoo.Values(2), "gru", 4, **options)
    x = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")
    parts = [np.asarray(model(x[:, :2])), np.asarray(model(x[:, 2:]))]
    if feedback:
        layer, expected = model.layers[-1], numpy_models.run_feedback(model.layers[-1], x)
    else:
        layer, expected = model.get_layer("recurrent"), expected_of(model, zoo.Values(2), x)
    layer.reset_state()
    np.testing.assert_allclose(model(x), expected, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-6)


@pytest.mark.traced
def test_learning_what_comes_later():
    """Each token is tagged by the next, which only the backward direction has read."""
    ids = np.random.default_rng(0).integers(1, 4, (64, 6))
    tags = np.roll(ids, -1, axis=1) - 1
    tags[:, -1] = 0
    options = {"bidirectional": True, "jit_compile": False}
    model = zoo.many_to_many(zoo.Tokens(4, 8), zoo.Classes(3), "gru", 12, **options)
    assert learn(model, ids, tags, steps=50, rate=0.03) < 0.15


@pytest.mark.traced
def test_learning_to_alternate_with_feedback():
    """Of constant inputs, only the previous output is informative."""
    options = {"feedback": True, "jit_compile": False}
    x, y = np.ones((16, 8, 1), "float32"), np.tile([1, 0], (16, 4))
    model = zoo.many_to_many(zoo.Vectors(1), zoo.Classes(2), "simple_rnn", 4, **options)
    assert learn(model, x, y, steps=80, rate=0.05) < 0.1


@pytest.mark.parametrize(
    ("outputs", "options"),
    [
        (zoo.Classes(9), {"tied": True, "depth": 2}),
        (zoo.MultiLabel(4), {"embedding_units": 3}),
        (zoo.Values(2), {"skip": True}),
    ],
    ids=variant_id,
)
def test_next_step(outputs, options, tmp_path):
    model = zoo.next_step(outputs, "gru", 5, **options)
    random = np.random.default_rng(0)
    x = IDS[:, :3] if outputs.kind == "classes" else random.normal(size=(3, 4, outputs.count))
    logits = numpy_models.decode(model.get_layer("decoder"), x)
    np.testing.assert_allclose(model(x), numpy_models.ACTIVATIONS[outputs.kind](logits), atol=1e-6)
    assert_saves(model, x, tmp_path)


@pytest.mark.traced
def test_next_step_learns_a_cycle():
    """In stateful segments; then it continues prompts of different lengths."""
    cycle = np.tile([1, 2, 3, 4, 5], 9)
    text = np.stack([cycle[n : n + 41] for n in range(4)])
    model = zoo.next_step(zoo.Classes(6), "gru", 24, stateful=True, batch_size=4, jit_compile=False)
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    for _ in range(12):
        model.get_layer("decoder").reset_state()
        losses = [
            model.train_on_batch(text[:, t : t + 10], text[:, t + 1 : t + 11])
            for t in range(0, 40, 10)
        ]
    assert losses[-1] < 0.1
    writer = zoo.generator(model, max_length=5)
    with op_by_op():
        written = np.asarray(writer(np.array([[3, 4, 5], [2, 0, 0]])))
    assert written.tolist() == [[1, 2, 3, 4, 5], [3, 4, 5, 1, 2]]


def test_generated_frames():
    model = zoo.next_step(zoo.MultiLabel(3), "gru", 8, padding=-1.0)
    writer = zoo.generator(model, Bernoulli(), max_length=4, start=0, seed=1, max_lengths=True)
    assert [x.name for x in writer.inputs] == ["prompt", "max_lengths"]
    prompt = np.full((2, 3, 3), -1, "float32")
    prompt[0, :2] = 1
    frames = np.asarray(writer([prompt, np.array([4, 2])]))
    assert set(np.unique(frames)) <= {0.0, 1.0}
    assert not frames[1, 2:].any()


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    """One model in ONNX, the others in one SavedModel."""
    random = np.random.default_rng(0)
    x = [random.standard_normal((n, 4, 3)).astype("float32") for n in (1, 3)]
    tags = zoo.many_to_many(zoo.Vectors(3), zoo.MultiLabel(2), "simple_rnn", 4, bidirectional=True)
    assert_exports_to_onnx(tags, x, tmp_path, (["sequence"], ["probabilities"]))
    feedback = zoo.many_to_many(
        zoo.Vectors(3), zoo.Values(2), "simple_rnn", 4, feedback=True, name="feedback"
    )
    following = zoo.next_step(zoo.Classes(9), "simple_rnn", 4, tied=True, input_name="ids")
    sampler = kerasrnn.decoding.Sample(top_k=5)
    writer = zoo.generator(following, sampler, max_length=3, seed=1)
    (sequence,), (ids,) = feedback.inputs, following.inputs
    outputs = [feedback(sequence), following(ids), writer(ids)]
    check = [[x[0], IDS[:1, :2].astype("int32")], [x[1], IDS.astype("int32")]]
    assert_exports(keras.Model([sequence, ids], outputs), check, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda ends: zoo.many_to_many(*ends, bidirectional=True, feedback=True),
            "feedback=True: a backward layer has no previous step",
        ),
        (
            lambda ends: zoo.many_to_many(*ends, bidirectional=True, stateful=True, batch_size=2),
            "stateful=True: a backward layer has no",
        ),
        (lambda ends: zoo.many_to_many(*ends, stateful=True), "batch_size=None: expected the num"),
        (lambda ends: zoo.many_to_many(*ends, depth=0), "depth=0: expected a positive integer"),
        (lambda ends: zoo.many_to_many(zoo.Labels(3), ends[1]), "a label is a single id"),
        (lambda ends: zoo.next_step(ends[0]), "outputs=Vectors.* expected zoo.Classes"),
        (
            lambda ends: zoo.next_step(zoo.MultiLabel(2), tied=True),
            "tied=True: expected kind='classes'",
        ),
        (lambda ends: zoo.next_step(ends[1], stateful=True), "batch_size=None: expected the num"),
        (lambda ends: zoo.next_step(ends[1], batch_size=0), "batch_size=0: expected a positive"),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make((zoo.Vectors(3), zoo.Classes(3)))
