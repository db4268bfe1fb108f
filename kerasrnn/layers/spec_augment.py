"""Masks of frequencies and times in training: Park et al. (2019)."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask
from kerasrnn.validation import Fraction, NonNegativeInteger, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SpecAugment(SequenceLayer):
    """Hides random bands of frequencies and of times in training.

    Park, Chan, Zhang, Chiu, Zoph, Cubuk & Le (2019), "SpecAugment: a simple data augmentation
    method for automatic speech recognition", section 2. Each row of a batch, with nu features and
    tau valid frames, gets bands of its own:

        f ~ U{0, ..., F},                   f_0 ~ U{0, ..., nu - f}:      f_0 <= feature < f_0 + f
        t ~ U{0, ..., min(T, p tau)},       t_0 ~ U{0, ..., tau - t}:     t_0 <= frame < t_0 + t

    Features in a band become `fill`. Bands may overlap. The paper draws f_0 below nu - f, which
    never hides the last feature; here it may be nu - f, and likewise t_0. The paper's warping of
    time, which it finds the least useful and the most expensive part, is not implemented. The
    defaults are the paper's policy LD.

    In inference, the layer does nothing.

    Args:
        frequency_masks: number of bands of frequencies.
        frequency_width: F, at most the number of features.
        time_masks: number of bands of times.
        time_width: T, in frames.
        time_fraction: p, in [0, 1]: the largest fraction of a row that one band hides.
        fill: the value of hidden features. The default is the mean of normalized features.
        seed: integer that makes the bands reproducible.

    Call arguments:
        features: `(batch, frames, features)`.
        mask: boolean `(batch, frames)`, True = use the frame. Default: the mask attached to the
            features, if any.
        training: whether anything is hidden.

    Returns:
        The features, `(batch, frames, features)`.

    Masking: bands are drawn among the valid frames, and masked frames are not changed. The mask is
    passed on.

    Raises:
        ValueError: an argument is out of its range, or the features are fewer than
            `frequency_width`, or have another rank.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> layer = kerasrnn.SpecAugment(1, 4, 1, 10, seed=0)
        >>> y = np.asarray(layer(np.ones((1, 100, 20), "float32"), training=True))
        >>> hidden = np.sum(y == 0, axis=(1, 2))
        >>> bool(hidden[0] <= 4 * 100 + 10 * 20), bool(np.all(np.asarray(layer(y)) == y))
        (True, True)
    """

    @validation.checked
    def __init__(
        self,
        frequency_masks: NonNegativeInteger = 2,
        frequency_width: NonNegativeInteger = 27,
        time_masks: NonNegativeInteger = 2,
        time_width: NonNegativeInteger = 100,
        time_fraction: Fraction = 1.0,
        fill: float = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frequency_masks = frequency_masks
        self.frequency_width = frequency_width
        self.time_masks = time_masks
        self.time_width = time_width
        self.time_fraction = time_fraction
        self.fill = fill
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, features_shape: Any) -> None:
        features = features_shape[-1]
        if self.frequency_masks and features is not None and features < self.frequency_width:
            raise ValueError(
                f"{self.name}: features of the shape {tuple(features_shape)}; expected at least "
                f"frequency_width={self.frequency_width} features."
            )
        self.built = True

    def call(
        self, features: Tensor, mask: Tensor | None = None, training: bool | None = False
    ) -> Tensor:
        y = self.in_compute_dtype(features)
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, features.shape[:2])
        if not training:
            return y
        batch, frames, count = ops.shape(features)
        if self.frequency_masks and self.frequency_width:
            places = ops.expand_dims(ops.arange(count, dtype="float32"), 0)
            size = ops.full((batch, 1), count, dtype="float32")
            width = ops.full_like(size, self.frequency_width)
            hidden = self._bands(self.frequency_masks, places, size, width)
            y = ops.where(ops.expand_dims(hidden, 1), self.fill, y)
        if self.time_masks and self.time_width:
            valid = ops.ones((batch, frames), "bool") if mask is None else mask
            # Frames are counted without the masked ones.
            counted = ops.cumsum(ops.cast(valid, "float32"), axis=1)
            size = counted[:, -1:]
            width = ops.minimum(ops.floor(self.time_fraction * size), self.time_width)
            hidden = self._bands(self.time_masks, counted - 1, size, width)
            y = ops.where(ops.expand_dims(hidden & valid, 2), self.fill, y)
        return ops.cast(y, self.compute_dtype)

    def _bands(self, number: int, places: Tensor, size: Tensor, width: Tensor) -> Tensor:
        """Which places are in one of several random bands.

        Args:
            number: how many bands each row gets.
            places: `(batch or 1, places)`, from 0.
            size: number of places that bands are drawn from, `(batch, 1)`.
            width: the largest width, `(batch, 1)`.
        """
        shape = (ops.shape(size)[0], number)
        draws = [keras.random.uniform(shape, seed=self.seed_generator) for _ in range(2)]
        widths = ops.minimum(ops.floor(draws[0] * (width + 1)), width)
        begins = ops.minimum(ops.floor(draws[1] * (size - widths + 1)), size - widths)
        begins, ends = (ops.expand_dims(x, 2) for x in (begins, begins + widths))
        places = ops.expand_dims(places, 1)
        return ops.any((places >= begins) & (places < ends), axis=1)

    def compute_output_shape(self, features_shape: Any) -> tuple[int | None, ...]:
        return tuple(features_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frequency_masks": self.frequency_masks,
            "frequency_width": self.frequency_width,
            "time_masks": self.time_masks,
            "time_width": self.time_width,
            "time_fraction": self.time_fraction,
            "fill": self.fill,
            "seed": self.seed,
        }
