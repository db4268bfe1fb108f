"""Features of sound, one waveform at a time, with NumPy's and SciPy's transforms."""

import math

import numpy as np
from scipy import fft, signal


def to_mel(f, scale):
    if scale == "htk":
        return 2595 * math.log10(1 + f / 700)
    return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000, 6.4)


def to_hertz(mel, scale):
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def filters(layer):
    """`(bins, filters)`, filter by filter."""
    low, high = (to_mel(f, layer.mel_scale) for f in (layer.min_freq, layer.max_freq))
    count = layer.num_mel_bins
    corners = [
        to_hertz(low + n * (high - low) / (count + 1), layer.mel_scale) for n in range(count + 2)
    ]
    f = np.fft.rfftfreq(layer.fft_length, 1 / layer.sampling_rate)
    columns = []
    for lower, peak, upper in zip(corners, corners[1:], corners[2:], strict=False):
        column = np.interp(f, [lower, peak, upper], [0, 1, 0])
        columns.append(column * 2 / (upper - lower) if layer.mel_norm else column)
    return np.stack(columns, axis=1)


def features(layer, x):
    """Those of one waveform `(samples,)`, `(frames, features)`, in float64."""
    x, length, step = x.astype("float64"), layer.frame_length, layer.frame_step
    padding = (layer.fft_length - length) // 2
    frames = 1 + (len(x) if layer.center else len(x) - length) // step
    if layer.center:
        x = np.pad(x, layer.fft_length)
    name = "boxcar" if layer.window == "rectangular" else layer.window
    window = signal.get_window(name, length)
    spectra = []
    for t in range(frames):
        begin = t * step
        if layer.center:  # the transform's middle is at sample t * step
            begin += layer.fft_length - layer.fft_length // 2 + padding
        spectra.append(np.fft.rfft(x[begin : begin + length] * window, layer.fft_length))
    energy = np.abs(np.array(spectra)) ** 2 @ filters(layer)
    y = np.log(np.maximum(energy, layer.floor))
    if layer.unit == "db":
        y = 10 * np.log10(np.maximum(energy, layer.floor))
    if layer.top_db is not None:
        y = np.maximum(y, y.max() - layer.top_db)
    if hasattr(layer, "num_coefficients"):
        y = fft.dct(y, norm="ortho", axis=1)[:, : layer.num_coefficients]
        if layer.lifter:
            n = np.arange(layer.num_coefficients)
            y = y * (1 + layer.lifter / 2 * np.sin(np.pi * (n + 1) / layer.lifter))
    parts = [y] + [
        signal.savgol_filter(y, layer.delta_width, n, deriv=n, axis=0, mode="nearest")
        for n in range(1, layer.deltas + 1)
    ]
    y = np.concatenate(parts, axis=1)
    if layer.normalization is not None:
        y = y - y.mean(axis=0)
    if layer.normalization == "mean_variance":
        y = y / np.sqrt((y**2).mean(axis=0) + 1e-5)
    return y
