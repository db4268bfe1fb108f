"""`LogMel` and `MFCC` compared with librosa."""

import numpy as np
import pytest

import kerasrnn

pytestmark = pytest.mark.torch

RATE = 16000
FRAMES = {"sr": RATE, "n_fft": 512, "win_length": 400, "hop_length": 160}


def test_features_equal_those_of_librosa():
    import librosa

    random, t = np.random.default_rng(0), np.arange(RATE) / RATE
    x = 0.3 * np.sin(2 * np.pi * 300 * t * (1 + 2 * t)) + 0.03 * random.standard_normal(RATE)
    x = x.astype("float32")
    for scale, norm in (("slaney", "slaney"), ("htk", None)):
        power = librosa.feature.melspectrogram(
            y=x, n_mels=80, htk=scale == "htk", norm=norm, fmin=50, fmax=7000, **FRAMES
        )
        options = {"mel_scale": scale, "mel_norm": norm, "min_freq": 50.0, "max_freq": 7000.0}
        for unit, expected in (
            ("log", np.log(power)),
            ("db", librosa.power_to_db(power, top_db=40)),
        ):
            top_db = 40.0 if unit == "db" else None
            layer = kerasrnn.LogMel(80, center=True, unit=unit, top_db=top_db, **options)
            np.testing.assert_allclose(layer(x[None])[0], expected.T, atol=1e-4)
    mfcc = librosa.feature.mfcc(y=x, n_mfcc=13, n_mels=80, **FRAMES)
    layer = kerasrnn.MFCC(13, center=True, unit="db", top_db=80, deltas=2)
    deltas = [librosa.feature.delta(mfcc, order=n, mode="nearest") for n in (1, 2)]
    expected = np.concatenate([mfcc, *deltas]).T
    np.testing.assert_allclose(layer(x[None])[0], expected, rtol=1e-6, atol=1e-4)
    # Without centering, librosa's frames are as long as the transform.
    power = librosa.feature.melspectrogram(y=x, n_mels=80, center=False, **FRAMES)
    layer = kerasrnn.LogMel(80)
    y = layer(x[None, (512 - 400) // 2 :])[0, : power.shape[1]]
    np.testing.assert_allclose(y, np.log(power).T, atol=1e-4)
