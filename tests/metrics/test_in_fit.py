"""Loss and metrics within `compile` and `fit`, under XLA."""

import keras
import numpy as np
import pytest

from kerasrnn.losses import SequenceCrossentropy
from kerasrnn.metrics import EditDistance, Perplexity, SequenceAccuracy, TokenAccuracy
from tests import numpy_models
from tests.losses import oracle
from tests.metrics.test_edit_distance import distance

CLASSES = 9


def test_fit_reports_the_metrics_of_the_predictions(tmp_path):
    """In half precision, with unknown lengths, a mask and weights of rows.

    XLA chooses where it rounds to half precision, so that two digits agree.
    """
    keras.config.set_dtype_policy("mixed_bfloat16")
    random = np.random.default_rng(0)
    x = random.integers(1, CLASSES, (24, 6)).astype("int32")
    x = np.where(np.arange(6) < random.integers(1, 7, 24)[:, None], x, 0)
    y = np.where(x > 0, np.roll(x, 1, axis=1) % CLASSES, 0)  # a few are padding by chance
    y = np.where(random.random(y.shape) < 0.6, x, y)
    weights = (np.arange(24) % 3 + 1).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(CLASSES, 16, mask_zero=True),
            keras.layers.Dense(CLASSES),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        SequenceCrossentropy(label_smoothing=0.1, from_logits=True, ignore_class=0),
        weighted_metrics=[
            TokenAccuracy(ignore_class=0),
            SequenceAccuracy(ignore_class=0),
            Perplexity(from_logits=True, ignore_class=0),
            EditDistance(ignore_class=0),
        ],
        jit_compile=True,
    )
    best = keras.callbacks.EarlyStopping("val_perplexity", patience=9)  # infers the direction
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        validation_data=(x, y, weights),
        batch_size=24,
        epochs=8,
        verbose=0,
        callbacks=[best],
    ).history
    assert history["val_loss"][-1] < 0.9 * history["val_loss"][0]
    assert best.best == min(history["val_perplexity"]) < history["val_perplexity"][0]

    logits = model(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"
    logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32")).astype("float64")
    p, predicted = numpy_models.softmax(logits), logits.argmax(axis=-1)
    used = y > 0
    tokens = weights[:, None] * used
    rows = weights * used.any(axis=1)
    edits = [distance(list(r[u]), list(h[u])) for r, h, u in zip(y, predicted, used, strict=True)]
    expected = {
        "val_loss": oracle.loss(y, p, 0.1, weights=weights),
        "val_token_accuracy": (tokens * (predicted == y)).sum() / tokens.sum(),
        "val_sequence_accuracy": rows @ ((predicted == y) | ~used).all(axis=1) / rows.sum(),
        "val_perplexity": np.exp(oracle.loss(y, p, weights=weights)),
        "val_edit_distance": weights @ edits / tokens.sum(),
    }
    final = {name: history[name][-1] for name in expected}
    assert final == pytest.approx(expected, rel=0.02)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.get_compile_config() == model.get_compile_config()
