"""Features of sound: the logarithmic mel spectrogram, and cepstral coefficients."""

import math
import warnings
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask
from kerasrnn.keras_internals import set_keras_mask
from kerasrnn.layers import mel
from kerasrnn.validation import (
    ArgumentError,
    NonNegativeInteger,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
)
from kerasrnn.wording import counted

Tensor = Any

EPSILON = 1e-5
"""Added to the variance in the normalization."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class LogMel(SequenceLayer):
    """The logarithmic mel spectrogram of waveforms.

        X_tk = sum_n w_n x_{t s + n} exp(-2 pi i k n / N)          frame t, of L samples
        y_tm = log(max(sum_k |X_tk|^2 B_km, floor))                unit="log"
        y_tm = 10 log10(max(sum_k |X_tk|^2 B_km, floor))           unit="db"

    with the window w, the frame step s, the length N of the Fourier transform, and triangular
    filters B at equal distances on the mel scale. The layer has no weights. It is part of the
    model: what a model was trained on is saved, loaded and exported with it, to ONNX too, where the
    transform is a convolution with stride s, as it is here on every backend.

    All is computed in float32, under half precision too (in float64 in a layer of float64).

    `librosa.feature.melspectrogram(y=x, sr=16000, n_fft=512, win_length=400, hop_length=160,
    n_mels=80)` has the logarithm of `LogMel(center=True)`, with its frames in columns, and
    `librosa.power_to_db` of it is `LogMel(center=True, unit="db", top_db=80)`. Differences from
    `keras.layers.MelSpectrogram` (Keras 3.15): that layer has only HTK's mel scale, with triangles
    on the mel scale instead of in Hz, frames that are centered and reflected at the ends, and
    `(batch, bins, time)`; its `top_db` refers to the loudest of all rows of a batch; it knows no
    mask and no ONNX.

    Args:
        num_mel_bins: number of filters.
        sampling_rate: samples per second.
        frame_length: L, in samples. Default: 25 ms.
        frame_step: s, in samples, at most L. Default: 10 ms.
        fft_length: N, at least L; frames are padded with zeros. Default: the next power of two.
        window: "hann", "hamming", "blackman" or "rectangular".
        center: whether frame t is centered at sample t * s, with zeros beyond both ends, so that
            there are 1 + samples // s frames. False: it begins there, and there are 1 + (samples -
            L) // s.
        mel_scale: "slaney" (linear below 1000 Hz) or "htk".
        mel_norm: "slaney": filters have an area of 1. None: a peak of 1.
        min_freq: lowest frequency in Hz.
        max_freq: highest frequency. Default: half of the sampling rate.
        unit: "log" (natural logarithm) or "db".
        floor: the lowest power.
        top_db: with "db": values are at most this far below the highest one of their row.
        deltas: 1 appends the derivatives of all features with respect to time, 2 the second
            derivatives as well, of a line and of a parabola fitted to `delta_width` frames (Furui
            1986; Savitzky & Golay 1964). Beyond both ends the outermost frames are repeated, as in
            `librosa.feature.delta(mode="nearest")`.
        delta_width: an odd number of frames, at least 3.
        normalization: "mean" subtracts the mean over the frames of each row, "mean_variance" also
            divides by the standard deviation; for each feature, deltas included.

    Call arguments:
        waveforms: x, `(batch, samples)`, floating-point numbers, usually in [-1, 1].
        mask: boolean `(batch, samples)`, True = use the sample. Default: the mask attached to the
            waveforms, if any.
        lengths: number of samples of each row, int `(batch,)`, in place of a mask.

    Returns:
        y, `(batch, frames, features)`; features are the mel bins, times 1 + `deltas`.

    Masking: masked samples count as 0, so that a row has the frames that it has without padding. A
    frame is valid if all its samples are valid; with `center`, if one of the two samples at its
    center is. The mask of the frames is attached to the output; on JAX, whose eager arrays carry no
    masks, `compute_mask(waveforms, mask)` returns it. `top_db`, deltas and normalization see the
    valid frames only (deltas: everything from the first to the last of them). Masked frames are 0.

    Raises:
        ValueError: an argument is out of its range; the waveforms have another rank, integers, or
            fewer samples than a frame; in an eager call, a valid sample is not finite; `mask` and
            `lengths` are both given, or a length exceeds the samples.

    Example:

        >>> import numpy as np, kerasrnn
        >>> second = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000).astype("float32")
        >>> y = kerasrnn.LogMel(num_mel_bins=40)(np.stack([second, 0.1 * second]))
        >>> tuple(y.shape), int(np.asarray(y)[0, 50].argmax())        # 98 frames; 440 Hz
        ((2, 98, 40), 5)
        >>> round(float(y[0, 50, 5] - y[1, 50, 5]), 3)                # log(0.1^-2)
        4.605
    """

    @validation.checked
    def __init__(
        self,
        num_mel_bins: PositiveInteger = 80,
        sampling_rate: PositiveInteger = 16000,
        frame_length: PositiveInteger | None = None,
        frame_step: PositiveInteger | None = None,
        fft_length: PositiveInteger | None = None,
        window: Literal["hann", "hamming", "blackman", "rectangular"] = "hann",
        center: bool = False,
        mel_scale: Literal["slaney", "htk"] = "slaney",
        mel_norm: Literal["slaney"] | None = "slaney",
        min_freq: NonNegativeNumber = 0.0,
        max_freq: PositiveNumber | None = None,
        unit: Literal["log", "db"] = "log",
        floor: PositiveNumber = 1e-10,
        top_db: PositiveNumber | None = None,
        deltas: NonNegativeInteger = 0,
        delta_width: PositiveInteger = 9,
        normalization: Literal["mean", "mean_variance"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_mel_bins = num_mel_bins
        self.sampling_rate = sampling_rate
        self.frame_length = frame_length or max(1, round(0.025 * sampling_rate))
        self.frame_step = frame_step or max(1, round(0.010 * sampling_rate))
        self.fft_length = fft_length or 2 ** math.ceil(math.log2(self.frame_length))
        self.window = window
        self.center = center
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.min_freq = min_freq
        self.max_freq = sampling_rate / 2 if max_freq is None else max_freq
        self.unit = unit
        self.floor = floor
        self.top_db = top_db
        self.deltas = deltas
        self.delta_width = delta_width
        self.normalization = normalization
        self._check_arguments()
        self.supports_masking = True

    def _check_arguments(self) -> None:
        length, half = self.frame_length, self.sampling_rate / 2
        validation.integer("frame_step", self.frame_step, 1, length)
        validation.integer("fft_length", self.fft_length, minimum=length)
        validation.number("max_freq", self.max_freq, above=self.min_freq, maximum=half)
        validation.integer("deltas", self.deltas, 0, 2)
        if self.delta_width < 3 or self.delta_width % 2 == 0:
            raise ArgumentError("delta_width", self.delta_width, "an odd integer of at least 3")
        if self.top_db is not None and self.unit != "db":
            raise ArgumentError("top_db", self.top_db, f"None with unit={self.unit!r}")
        empty = int(np.sum(~self._filters().any(axis=0)))
        if empty:
            warnings.warn(
                f"{self.name}: {counted(empty, 'filter')} of num_mel_bins={self.num_mel_bins} lie "
                f"between the frequencies of fft_length={self.fft_length}, and are constant; "
                "expected fewer filters, or a longer transform.",
                stacklevel=3,
            )

    def _filters(self) -> np.ndarray:
        return mel.filters(
            self.num_mel_bins,
            self.sampling_rate,
            self.fft_length,
            self.min_freq,
            self.max_freq,
            self.mel_scale,
            self.mel_norm,
        )

    @property
    def features(self) -> int:
        """The number of features of a frame."""
        return self._static_features * (1 + self.deltas)

    @property
    def _static_features(self) -> int:
        return self.num_mel_bins

    def frames(self, samples: int) -> int:
        """The number of frames of a waveform.

        >>> import kerasrnn
        >>> kerasrnn.LogMel().frames(16000), kerasrnn.LogMel(center=True).frames(16000)
        (98, 101)
        """
        samples = validation.integer("samples", samples, minimum=0)
        if self.center:
            return 1 + samples // self.frame_step if samples else 0
        return max(0, 1 + (samples - self.frame_length) // self.frame_step)

    def call(
        self, waveforms: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        self._check(waveforms)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(waveforms, dtype)
        use = self._sample_mask(x, mask, lengths)
        if use is not None:
            x = ops.where(use, x, 0)
        self._check_values(x)
        valid = None if use is None else self._frame_mask(use)
        y = self._spectral(self._log_mel(x, dtype), valid)
        y = self._with_deltas(y, valid)
        y = self._normalized(y, valid)
        if valid is not None:
            y = ops.where(ops.expand_dims(valid, 2), y, 0)
        y = ops.cast(y, self.compute_dtype)
        if lengths is not None:
            set_keras_mask(y, valid)  # Keras computes only the mask that follows from a mask
        return y

    def stream(self, samples: Tensor, carried: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The features of the next part of a stream, equal to those of the entire waveform.

        Args:
            samples: the new samples, `(batch, any number)`; the number must be known.
            carried: what the previous call returned; None at the beginning of a stream.

        Returns:
            The features of the frames that are now complete, `(batch, frames, features)`, possibly
            none, and the samples that belong to later frames as well: after a whole number of
            steps, always `frame_length - frame_step`. In a functional model with such inputs both
            are outputs, so that the stream can be exported.

        Raises:
            ValueError: features depend on later samples: with `center`, `top_db`, deltas or
                normalization; the number of samples is unknown.

        Example:

            >>> import numpy as np, kerasrnn
            >>> x = np.random.default_rng(0).normal(size=(1, 1600)).astype("float32")
            >>> layer, parts, carried = kerasrnn.LogMel(num_mel_bins=20), [], None
            >>> for begin in range(0, 1600, 500):
            ...     y, carried = layer.stream(x[:, begin : begin + 500], carried)
            ...     parts.append(np.asarray(y))
            >>> [part.shape[1] for part in parts]
            [1, 3, 3, 1]
            >>> bool(np.allclose(np.concatenate(parts, axis=1), layer(x), atol=1e-5))
            True
        """
        for name, off in (
            ("center", False),
            ("top_db", None),
            ("deltas", 0),
            ("normalization", None),
        ):
            if getattr(self, name) != off:
                raise ValueError(
                    f"{self.name}: {name}={getattr(self, name)!r} depends on samples that a stream "
                    f"does not have yet; expected {name}={off!r}."
                )
        self._check_kind(samples)
        if carried is not None:
            samples = ops.concatenate([carried, ops.cast(samples, carried.dtype)], axis=1)
        count = samples.shape[1]
        if count is None:
            raise ValueError(
                f"{self.name}: samples of the shape {tuple(samples.shape)}: expected a known "
                "number of samples."
            )
        frames = self.frames(count)
        if not frames:
            none = ops.zeros_like(samples[:, :0, None], dtype=self.compute_dtype)
            return ops.repeat(none, self.features, axis=2), ops.convert_to_tensor(samples)
        return self(samples), samples[:, frames * self.frame_step :]

    def _check_kind(self, waveforms: Any) -> None:
        shape, dtype = tuple(waveforms.shape), keras.backend.standardize_dtype(waveforms.dtype)
        if len(shape) != 2:
            hint = " Average the channels, or make each a row." if len(shape) == 3 else ""
            raise ValueError(
                f"{self.name}: waveforms of the shape {shape}; expected (batch, samples).{hint}"
            )
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"{self.name}: waveforms has the dtype {dtype}; expected floating-point numbers, "
                "usually in [-1, 1]: divide samples of 16 bits by 32768."
            )

    def _check(self, waveforms: Any) -> None:
        self._check_kind(waveforms)
        least = 1 if self.center else self.frame_length
        if waveforms.shape[1] is not None and waveforms.shape[1] < least:
            raise ValueError(
                f"{self.name}: waveforms of the shape {tuple(waveforms.shape)}; expected (batch, "
                f"samples) with {least} samples or more, those of a frame."
            )

    def _check_values(self, x: Tensor) -> None:
        values = validation.known(x)
        if values is not None and not np.isfinite(values).all():
            row, sample = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"{self.name}: waveforms[{row}, {sample}]={values[row, sample]}; expected finite "
                "numbers."
            )

    def _sample_mask(self, x: Tensor, mask: Any, lengths: Any) -> Tensor | None:
        if lengths is None:
            return None if mask is None else boolean_mask(f"{self.name}: mask", mask, x.shape)
        name = f"{self.name}: lengths"
        if mask is not None:
            raise ValueError(f"{name} and mask are both given; expected one of them.")
        lengths = validation.tensor(name, lengths)
        if len(lengths.shape) != 1 or "int" not in keras.backend.standardize_dtype(lengths.dtype):
            raise ValueError(
                f"{name} of the shape {tuple(lengths.shape)} and the dtype {lengths.dtype}; "
                "expected integers (batch,), the number of samples of each row."
            )
        values = validation.known(lengths)
        if values is not None and x.shape[1] is not None:
            wrong = values[(values < 0) | (values > x.shape[1])]
            if wrong.size:
                raise ValueError(f"{name}: {wrong[0]}; expected 0 to {x.shape[1]}, the samples.")
        places = ops.arange(ops.shape(x)[1], dtype="int32")
        return places < ops.expand_dims(ops.cast(lengths, "int32"), 1)

    def _frame_mask(self, use: Tensor) -> Tensor:
        """The frames that are valid, given the samples that are."""
        use = ops.cast(use, "int32")
        if self.center:
            beside = ops.pad(use, ((0, 0), (1, 1)))
            return (beside[:, :-1] + beside[:, 1:])[:, :: self.frame_step] > 0
        length = self.frame_length
        before = ops.pad(ops.cumsum(use, axis=1), ((0, 0), (1, 0)))
        inside = before[:, length:] - before[:, :-length]
        return inside[:, :: self.frame_step] == length

    def _log_mel(self, x: Tensor, dtype: str) -> Tensor:
        if self.center:
            # The window is in the middle of the transform, as in librosa.
            left = self.fft_length // 2 - (self.fft_length - self.frame_length) // 2
            x = ops.pad(x, ((0, 0), (left, self.frame_length - left)))
        weights = self._filters()
        bins = np.flatnonzero(weights.any(axis=1))
        kernel = mel.transform(self.window, self.frame_length, self.fft_length, bins)
        parts = ops.conv(
            ops.expand_dims(x, 2),
            ops.convert_to_tensor(kernel[:, None], dtype),
            strides=self.frame_step,
            padding="valid",
            data_format="channels_last",
        )
        real, imaginary = ops.split(parts, 2, axis=-1)
        power = ops.square(real) + ops.square(imaginary)
        energy = ops.matmul(power, ops.convert_to_tensor(weights[bins], dtype))
        y = ops.log(ops.maximum(energy, self.floor))
        return y if self.unit == "log" else y * (10 / math.log(10))

    def _spectral(self, y: Tensor, valid: Tensor | None) -> Tensor:
        """The features of single frames, from the logarithms."""
        if self.top_db is None:
            return y
        counted = y if valid is None else ops.where(ops.expand_dims(valid, 2), y, -1e30)
        highest = ops.max(counted, axis=(1, 2), keepdims=True)
        return ops.maximum(y, highest - self.top_db)

    def _with_deltas(self, y: Tensor, valid: Tensor | None) -> Tensor:
        if not self.deltas:
            return y
        reach, first, last = self.delta_width // 2, y[:, :1], y[:, -1:]
        extended = y
        if valid is not None:
            # The frames around a row are its own outermost ones.
            t = ops.arange(ops.shape(y)[1], dtype="int32")
            end = ops.shape(y)[1]
            begin = ops.min(ops.where(valid, t, end), axis=1, keepdims=True)
            stop = ops.max(ops.where(valid, t, -1), axis=1, keepdims=True)
            first, last = (
                ops.sum(ops.where(ops.expand_dims(t == at, 2), y, 0), axis=1, keepdims=True)
                for at in (begin, stop)
            )
            before, after = (ops.expand_dims(x, 2) for x in (t < begin, t > stop))
            extended = ops.where(before, first, ops.where(after, last, y))
        around = ops.concatenate([*[first] * reach, extended, *[last] * reach], axis=1)
        parts = [y]
        for order in range(1, self.deltas + 1):
            weights = mel.derivative(order, self.delta_width)
            terms = [
                float(w) * around[:, k : k + 1 - self.delta_width or None]
                for k, w in enumerate(weights)
                if w
            ]
            parts.append(sum(terms[1:], terms[0]))
        return ops.concatenate(parts, axis=2)

    def _normalized(self, y: Tensor, valid: Tensor | None) -> Tensor:
        if self.normalization is None:
            return y
        use = ops.ones_like(y[:, :, :1], dtype="bool")
        use = use if valid is None else ops.expand_dims(valid, 2)
        count = ops.maximum(ops.sum(ops.cast(use, y.dtype), axis=1, keepdims=True), 1)
        y = y - ops.sum(ops.where(use, y, 0), axis=1, keepdims=True) / count
        if self.normalization == "mean":
            return y
        variance = ops.sum(ops.where(use, ops.square(y), 0), axis=1, keepdims=True) / count
        return y * ops.rsqrt(variance + EPSILON)

    def compute_mask(self, waveforms: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """The mask of the frames, `(batch, frames)`, given that of the samples."""
        return None if mask is None else self._frame_mask(ops.convert_to_tensor(mask))

    def compute_output_spec(
        self, waveforms: Any, mask: Any = None, lengths: Any = None
    ) -> keras.KerasTensor:
        self._check(waveforms)
        return keras.KerasTensor(self.compute_output_shape(waveforms.shape), self.compute_dtype)

    def compute_output_shape(self, waveforms_shape: Any) -> tuple[int | None, ...]:
        batch, samples = waveforms_shape
        return (batch, None if samples is None else self.frames(samples), self.features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{name: getattr(self, name) for name in ARGUMENTS}}


ARGUMENTS = (
    "num_mel_bins",
    "sampling_rate",
    "frame_length",
    "frame_step",
    "fft_length",
    "window",
    "center",
    "mel_scale",
    "mel_norm",
    "min_freq",
    "max_freq",
    "unit",
    "floor",
    "top_db",
    "deltas",
    "delta_width",
    "normalization",
)
"""The arguments of `LogMel`."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class MFCC(LogMel):
    """Mel-frequency cepstral coefficients of waveforms.

        c_tk = a_k sum_m y_tm cos(pi k (2 m + 1) / (2 M)),     a_0 = sqrt(1 / M), a_k = sqrt(2 / M)

    Davis & Mermelstein (1980), "Comparison of parametric representations for monosyllabic word
    recognition in continuously spoken sentences", with the orthonormal transform. y is the
    logarithmic mel spectrogram, whose arguments, units and mask are those of `LogMel`. The
    coefficients hardly depend on each other, and the first ones have the shape of the spectrum
    without its harmonics.

    `librosa.feature.mfcc(y=x, sr=16000, n_mfcc=13, n_fft=512, win_length=400, hop_length=160,
    n_mels=80)` is `MFCC(13, center=True, unit="db", top_db=80)`, with its frames in columns.

    Args:
        num_coefficients: number of coefficients, at most that of the mel bins.
        lifter: with a number Q above 0, c_k is multiplied by 1 + Q / 2 sin(pi (k + 1) / Q).
        **kwargs: the arguments of `LogMel`.

    Call arguments:
        waveforms: see `LogMel`.
        mask: see `LogMel`.
        lengths: see `LogMel`.

    Returns:
        `(batch, frames, num_coefficients * (1 + deltas))`.

    Masking: see `LogMel`.

    Raises:
        ValueError: as for `LogMel`, or more coefficients than mel bins.

    Example:

        >>> import numpy as np, kerasrnn
        >>> x = np.random.default_rng(0).normal(size=(2, 16000)).astype("float32")
        >>> layer = kerasrnn.MFCC(13, deltas=2, normalization="mean_variance")
        >>> tuple(layer(x, lengths=np.array([16000, 9000])).shape)
        (2, 98, 39)
    """

    @validation.checked
    def __init__(
        self,
        num_coefficients: PositiveInteger = 13,
        lifter: NonNegativeNumber = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_coefficients = validation.integer(
            "num_coefficients", num_coefficients, 1, self.num_mel_bins
        )
        self.lifter = lifter

    @property
    def _static_features(self) -> int:
        return self.num_coefficients

    def _spectral(self, y: Tensor, valid: Tensor | None) -> Tensor:
        y = super()._spectral(y, valid)
        matrix = mel.cosines(self.num_mel_bins, self.num_coefficients, self.lifter)
        return ops.matmul(y, ops.convert_to_tensor(matrix, y.dtype))

    def get_config(self) -> dict[str, Any]:
        own = {"num_coefficients": self.num_coefficients, "lifter": self.lifter}
        return {**super().get_config(), **own}
