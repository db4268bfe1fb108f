"""The constants behind features of sound: windows, filters and transforms, as NumPy arrays."""

import math

import numpy as np

WINDOWS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "rectangular": (1.0,),
}
"""The coefficients a of w_n = sum_k (-1)^k a_k cos(2 pi k n / N)."""

BREAK = 1000.0
"""The frequency in Hz from which Slaney's scale is logarithmic."""


def window(name: str, length: int) -> np.ndarray:
    """A periodic window, as the analysis of frames needs it, `(length,)`."""
    n = np.arange(length)
    terms = enumerate(WINDOWS[name])
    return sum((-1) ** k * a * np.cos(2 * np.pi * k * n / length) for k, a in terms)


def transform(name: str, length: int, fft_length: int, bins: np.ndarray) -> np.ndarray:
    """The windowed discrete Fourier transform of a frame, as a matrix.

    Args:
        name: the window.
        length: samples of a frame.
        fft_length: length of the transform; the frame is padded with zeros.
        bins: the frequencies to compute, as numbers from 0 to `fft_length // 2`.

    Returns:
        `(length, 2 * bins)`: the real parts, then the imaginary parts.
    """
    angles = 2 * np.pi * np.outer(np.arange(length), bins) / fft_length
    columns = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)
    return columns * window(name, length)[:, None]


def to_mel(hertz: np.ndarray, scale: str) -> np.ndarray:
    """Frequencies on the mel scale.

    "htk": 2595 log10(1 + f / 700). "slaney", of Slaney (1998), "Auditory Toolbox": 3 f / 200 below
    1000 Hz, and above that 15 + 27 log(f / 1000) / log(6.4).
    """
    hertz = np.asarray(hertz, "float64")
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    above = 15 + 27 * np.log(np.maximum(hertz, BREAK) / BREAK) / math.log(6.4)
    return np.where(hertz < BREAK, 3 * hertz / 200, above)


def to_hertz(mel: np.ndarray, scale: str) -> np.ndarray:
    """The inverse of `to_mel`."""
    mel = np.asarray(mel, "float64")
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = BREAK * np.exp(math.log(6.4) * (mel - 15) / 27)
    return np.where(mel < 15, 200 * mel / 3, above)


def filters(
    count: int,
    sampling_rate: float,
    fft_length: int,
    min_freq: float,
    max_freq: float,
    scale: str,
    norm: str | None,
) -> np.ndarray:
    """Triangular filters, whose corners are equally spaced on the mel scale.

    Returns:
        `(fft_length // 2 + 1, count)`, with peaks of 1, or, with "slaney", areas of 1 in Hz.
    """
    ends = to_mel(np.array([min_freq, max_freq]), scale)
    corners = to_hertz(np.linspace(*ends, count + 2), scale)
    lower, peak, upper = corners[:-2], corners[1:-1], corners[2:]
    f = np.arange(fft_length // 2 + 1)[:, None] * sampling_rate / fft_length
    weights = np.minimum((f - lower) / (peak - lower), (upper - f) / (upper - peak))
    weights = np.maximum(weights, 0)
    return weights * 2 / (upper - lower) if norm == "slaney" else weights


def cosines(bins: int, coefficients: int, lifter: float) -> np.ndarray:
    """The orthonormal discrete cosine transform (type II), liftered, `(bins, coefficients)`."""
    n, k = np.arange(bins)[:, None], np.arange(coefficients)
    matrix = math.sqrt(2 / bins) * np.cos(np.pi * k * (2 * n + 1) / (2 * bins))
    matrix[:, 0] /= math.sqrt(2)
    if lifter:
        matrix *= 1 + lifter / 2 * np.sin(np.pi * (k + 1) / lifter)
    return matrix


def derivative(order: int, width: int) -> np.ndarray:
    """The weights of `width` frames in the derivative of the parabola (or line) fitted to them.

    Savitzky & Golay (1964); with `order` 1, the regression of Furui (1986).
    """
    n = np.arange(width) - width // 2
    fitted = np.linalg.pinv(np.vander(n, order + 1, increasing=True))
    return math.factorial(order) * fitted[order]
