"""`LogMel` and `MFCC` against NumPy and SciPy, row by row; and what exports and streams compute."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask
from tests.catalogue import variant_id
from tests.layers.sound_oracle import features
from tests.measure import FIRST_BACKEND

RATE = 4000
SMALL = {"num_mel_bins": 12, "sampling_rate": RATE}  # frames of 100 samples, steps of 40
LENGTHS = (1000, 620, 140, 99)


def waveforms():
    """A tone that rises, in noise."""
    random, t = np.random.default_rng(0), np.arange(LENGTHS[0]) / RATE
    tones = [np.sin(2 * np.pi * (100 + 200 * n) * t * (1 + 3 * t)) for n in range(len(LENGTHS))]
    return (0.3 * np.stack(tones) + 0.03 * random.standard_normal((4, 1000))).astype("float32")


X = waveforms()

VARIANTS = [
    (kerasrnn.LogMel, {}),
    (kerasrnn.LogMel, {"center": True, "unit": "db", "top_db": 30.0, "mel_norm": None}),
    (
        kerasrnn.LogMel,
        {
            "mel_scale": "htk",
            "window": "hamming",
            "min_freq": 90.0,
            "max_freq": 1500.0,
            "deltas": 2,
        },
    ),
    (
        kerasrnn.LogMel,
        {"center": True, "frame_length": 99, "fft_length": 256, "window": "blackman", "floor": 1.0},
    ),
    (
        kerasrnn.MFCC,
        {"num_coefficients": 5, "deltas": 1, "delta_width": 5, "window": "rectangular"},
    ),
    (
        kerasrnn.MFCC,
        {
            "num_coefficients": 7,
            "lifter": 22,
            "unit": "db",
            "top_db": 80.0,
            "center": True,
            "deltas": 2,
            "normalization": "mean_variance",
        },
    ),
]


@pytest.mark.torch_backend
@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=variant_id)
def test_equals_numpy_row_by_row(cls, options):
    """With lengths, and with the mask that says the same, each row is what it is alone."""
    layer = cls(**SMALL, **options)
    for row, alone in zip(ops.convert_to_numpy(layer(X)), X, strict=True):
        np.testing.assert_allclose(row, features(layer, alone), atol=1e-4)
    mask = np.arange(1000) < np.array(LENGTHS)[:, None]
    noisy = np.where(mask, X, np.nan).astype("float32")  # padding has no influence
    y = ops.convert_to_numpy(layer(noisy, lengths=np.array(LENGTHS)))
    np.testing.assert_array_equal(y, layer(noisy, mask=mask))
    valid = ops.convert_to_numpy(layer.compute_mask(X, mask))
    for row, use, alone, length in zip(y, valid, X, LENGTHS, strict=True):
        count = layer.frames(length)
        assert use.tolist() == [n < count for n in range(len(row))]
        if count:
            np.testing.assert_allclose(row[:count], features(layer, alone[:length]), atol=1e-4)
        np.testing.assert_array_equal(row[count:], 0)
    left = np.flip(mask, axis=1)  # padding in front: whole steps of it shift the frames
    shifted = ops.convert_to_numpy(layer(np.roll(X[1:2], 380, axis=1)[:, :1000], mask=left[1:2]))
    if not options.get("center") and layer.frame_step == 40:
        use = ops.convert_to_numpy(layer.compute_mask(X, left[1:2]))[0]
        begin = np.flatnonzero(use)[0] * 40 - 380
        expected = features(layer, X[1, begin:620])
        np.testing.assert_allclose(shifted[0, use], expected, atol=1e-4)


@pytest.mark.torch_backend
def test_the_mask_goes_through_a_model_to_its_loss():
    """From lengths, through a recurrent layer: padding has no influence on the loss."""
    x, lengths = keras.Input((None,), name="x"), keras.Input((), dtype="int32", name="lengths")
    y = kerasrnn.MFCC(4, **SMALL)(x, lengths=lengths)
    y = keras.layers.Dense(3)(kerasrnn.GRU(3, return_sequences=True)(y))
    model = keras.Model([x, lengths], y)
    # Arrays of JAX carry masks in compiled functions only.
    model.compile(loss=kerasrnn.losses.CTC(from_logits=True), run_eagerly=FIRST_BACKEND)
    targets, counts = np.array([[1, 2], [2, 0]]), np.array(LENGTHS[:2])
    whole = model.evaluate([X[:2], counts], targets, verbose=0)
    alone = [
        model.evaluate([X[n : n + 1, :length], counts[n : n + 1]], targets[n : n + 1], verbose=0)
        for n, length in enumerate(counts)
    ]
    np.testing.assert_allclose(whole, np.mean(alone), rtol=1e-5)
    if FIRST_BACKEND:
        layer = kerasrnn.LogMel(**SMALL)
        found = get_keras_mask(layer(X, lengths=np.array(LENGTHS)))
        assert np.sum(found, axis=1).tolist() == [layer.frames(length) for length in LENGTHS]


@pytest.mark.torch_backend
def test_half_and_double_precision_compute_at_least_in_single():
    expected = ops.convert_to_numpy(kerasrnn.LogMel(**SMALL)(X))
    for dtype in ("mixed_float16", "mixed_bfloat16"):
        y = kerasrnn.LogMel(**SMALL, dtype=dtype)(X)
        assert keras.backend.standardize_dtype(y.dtype) == dtype.removeprefix("mixed_")
        eps = 2**-10 if "bf" not in dtype else 2**-7
        np.testing.assert_allclose(ops.cast(y, "float32"), expected, rtol=eps, atol=eps)
    if FIRST_BACKEND:
        layer = kerasrnn.LogMel(**SMALL, dtype="float64")
        np.testing.assert_allclose(layer(X)[0], features(layer, X[0]), atol=1e-10)


@pytest.mark.torch_backend
@pytest.mark.parametrize("cls", [kerasrnn.LogMel, kerasrnn.MFCC])
def test_a_stream_computes_what_the_whole_waveform_gives(cls):
    layer = cls(**SMALL, **({"num_coefficients": 5} if cls is kerasrnn.MFCC else {}))
    for size in (33, 40, 333):
        carried, parts = None, []
        for begin in range(0, 1000, size):
            y, carried = layer.stream(X[:, begin : begin + size], carried)
            parts.append(ops.convert_to_numpy(y))
        np.testing.assert_allclose(np.concatenate(parts, axis=1), layer(X), atol=2e-5)
        assert carried.shape[1] == 1000 - layer.frames(1000) * 40


@pytest.mark.torch_backend
def test_configuration():
    layer = kerasrnn.MFCC(6, lifter=3.0, **SMALL, deltas=1, normalization="mean", center=True)
    again = kerasrnn.MFCC.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(X), layer(X))


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_step": 101}, "frame_step=101: expected an integer from 1 to 100"),
        ({"fft_length": 64}, "fft_length=64: expected an integer of at least 100"),
        ({"max_freq": 2001.0}, r"max_freq=2001.0: expected a number in .*2000\]"),
        ({"min_freq": 500.0, "max_freq": 400.0}, r"max_freq=400.0: expected a number"),
        ({"deltas": 3}, "deltas=3: expected an integer from 0 to 2"),
        ({"delta_width": 4}, "delta_width=4: expected an odd integer of at least 3"),
        ({"top_db": 80.0}, "top_db=80.0: expected None with unit='log'"),
        ({"window": "kaiser"}, "window='kaiser': expected 'hann'"),
    ],
    ids=variant_id,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.LogMel(**SMALL, **options)


@pytest.mark.torch_backend
def test_bad_inputs():
    layer = kerasrnn.LogMel(**SMALL)
    bad = X.copy()
    bad[2, 30] = np.nan
    for x, message in (
        (X[0], r"waveforms of the shape \(1000,\); expected \(batch, samples\)"),
        (X[..., None], r"of the shape \(4, 1000, 1\); expected .* Average the channels"),
        ((X * 1000).astype("int16"), "dtype int16; expected floating.*divide samples of 16 bits"),
        (X[:, :99], r"of the shape \(4, 99\); expected .* with 100 samples or more"),
        (bad, r"waveforms\[2, 30\]=nan; expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x)
    with pytest.raises(ValueError, match="dtype int16"):
        layer(keras.Input((None,), dtype="int16"))
    for lengths, message in (
        (np.array([1001, 0, 0, 0]), "lengths: 1001; expected 0 to 1000"),
        (np.array([1.0, 2.0, 3.0, 4.0]), r"lengths of the shape \(4,\) and the dtype .*float"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(X, lengths=lengths)
    with pytest.raises(ValueError, match="lengths and mask are both given"):
        layer(X, mask=np.ones(X.shape, bool), lengths=np.array(LENGTHS))
    with pytest.raises(ValueError, match="num_coefficients=13: expected an integer from 1 to 12"):
        kerasrnn.MFCC(13, **SMALL)
    for option in ({"center": True}, {"deltas": 1}, {"normalization": "mean"}):
        (name,) = option
        with pytest.raises(ValueError, match=f"{name}=.* does not have yet; expected {name}="):
            kerasrnn.LogMel(**SMALL, **option).stream(X)
    with pytest.warns(
        UserWarning, match=r"filters of num_mel_bins=128 lie between the frequencies"
    ):
        kerasrnn.LogMel(128, RATE)


@pytest.mark.tensorflow
def test_exports_compute_the_same(tmp_path):
    """The ONNX file in onnxruntime, the SavedModel, and a stream's step, on several lengths."""
    inputs, lengths = keras.Input((None,), name="x"), keras.Input((), dtype="int32", name="n")
    options = {**SMALL, "deltas": 1, "center": True, "unit": "db", "top_db": 40.0}
    y = kerasrnn.MFCC(5, normalization="mean_variance", **options)(inputs, lengths=lengths)
    model = keras.Model([inputs, lengths], kerasrnn.GRU(3, return_sequences=True)(y))
    batches = [(X, np.array(LENGTHS, "int32")), (X[:1, :310], np.array([300], "int32"))]
    report = kerasrnn.export.to_onnx(model, tmp_path / "model.onnx", check=batches)
    assert report.difference < 1e-5
    report = kerasrnn.export.to_saved_model(model, tmp_path / "model", check=batches)
    assert report.difference < 1e-5
    layer = kerasrnn.LogMel(**SMALL)
    chunk, before = keras.Input((80,)), keras.Input((60,))
    step = keras.Model([chunk, before], layer.stream(chunk, before))
    report = kerasrnn.export.to_onnx(
        step, tmp_path / "step.onnx", check=[(X[:, 60:140], X[:, :60])]
    )
    assert report.difference < 1e-5
    y, carried = step([X[:, 60:140], X[:, :60]])
    np.testing.assert_allclose(y, layer(X)[:, :2], atol=1e-5)
    np.testing.assert_array_equal(carried, X[:, 80:140])
