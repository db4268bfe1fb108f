"""Shared code of the models of piano rolls: transposition, likelihood per frame, composition.

A network reads the frames of a piece and predicts, for each key, whether it sounds in the next one.
"""

import dataclasses
import textwrap
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.training.bucketing import bucketed

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

KEYS = 88
PADDING = -1.0  # a frame of zeros is silence
LENGTHS = (32, 48, 64, 96, 160, 320)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the composition."""

    length: int = options.option(
        64, "length of the composition, in quarter notes", low=1, high=4096
    )
    temperature: float = options.option(
        0.7, "sampling temperature: below 1 is more conservative, above 1 more diverse", low=0.01
    )
    tempo: int = options.option(80, "quarter notes per minute", low=1)
    seed: int = options.option(0, "random seed of the sampling", low=0, high=options.HIGHEST_SEED)


class Polyphony(Recipe):
    """A recurrent network that predicts piano rolls frame by frame.

    A recipe implements `rolls` and, if the data is not at the sung pitch, `octave`. Its options
    include `cell`, `units`, `depth`, `dropout`, `recurrent_dropout` and `transpose`.
    """

    PredictOptions = PredictOptions
    makes = (".mid", ".png")
    input_help = (
        'one or more chords to begin with, such as "C3 G3 E4 C5" or "48 55 64 72, 50 57 65 74"'
    )

    @abstractmethod
    def rolls(
        self, config: Any, data_dir: str | None = None
    ) -> Mapping[str, Sequence["np.ndarray"]]:
        """The pieces of `train`, `validation` and `test`: float32 `(frames, 88)`."""

    def octave(self, metadata: Mapping[str, Any]) -> int:
        """The number of semitones by which the data is above the sung pitch."""
        return 0

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        rolls = self.rolls(config, data_dir)
        train, validation, test = (_pieces(rolls[split]) for split in SPLITS)
        return Data(
            train=train,
            test=test,
            train_size=len(rolls["train"]),
            test_size=len(rolls["test"]),
            validation=validation,
            validation_size=len(rolls["validation"]),
            metadata={"dataset": config.dataset},
            raw=rolls,
        )

    def model(self, config: Any, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.next_step(
            zoo.MultiLabel(KEYS),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            dropout=config.dropout,
            recurrent_dropout=config.recurrent_dropout,
            padding=PADDING,
            name=self.name,
        )

    def loss(self, config: Any) -> str:
        return "binary_crossentropy"

    def fit_metrics(self, config: Any) -> tuple[str, ...]:
        return ()

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        if training and config.transpose:
            drawn = tf.data.Dataset.random(config.seed, rerandomize_each_iteration=True)
            span = 2 * config.transpose + 1

            def moved(piece: Any, number: Any) -> Any:
                shift = tf.cast(number % span, "int32") - config.transpose
                # A piece that would leave the keyboard is not transposed.
                kept = tf.where(
                    tf.reduce_sum(tf.roll(piece, shift, axis=1) * _inside(shift))
                    < tf.reduce_sum(piece),
                    0,
                    shift,
                )
                return tf.roll(piece, kept, axis=1)

            dataset = tf.data.Dataset.zip(dataset, drawn).map(moved)
        pairs = dataset.map(lambda piece: (piece[:-1], piece[1:]))
        return bucketed(pairs, LENGTHS, config.batch_size, training, padding=(PADDING, 0.0))

    def evaluate(
        self, model: "keras.Model", data: Data, config: Any, folder: Path
    ) -> dict[str, float]:
        test = data.raw["test"]
        probabilities = [model.predict(roll[None, :-1], verbose=0)[0] for roll in test]
        return {"test_nats_per_frame": nats_per_frame(probabilities, test)}

    def baselines(self, data: Data, config: Any) -> dict[str, float]:
        test = data.raw["test"]
        return {
            f"baseline_{name}_test_nats_per_frame": nats_per_frame(
                [guess(roll[:-1]) for roll in test], test
            )
            for name, guess in baseline_models(data.raw["train"]).items()
        }

    def parse_input(self, text: str) -> "np.ndarray":
        from kerasrnn.recipes.datasets import piano_rolls
        from kerasrnn.recipes.tasks import music

        return piano_rolls.from_pitches([music.read_chord(chord) for chord in text.split(",")])

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence["np.ndarray"],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        import numpy as np

        from kerasrnn import decoding, zoo
        from kerasrnn.recipes.datasets import piano_rolls
        from kerasrnn.recipes.tasks import music

        octave = self.octave(metadata)
        for number, seed in enumerate(inputs, start=1):
            if seed[:, KEYS - octave :].any():
                highest = piano_rolls.HIGHEST - octave
                raise ConfigError(
                    f"input {number}: expected pitches up to {music.pitch_name(highest)} "
                    f"({highest}), since the model reads them an octave above."
                )
        composer = zoo.generator(
            model,
            sampler=decoding.Bernoulli(predict_options.temperature),
            max_length=predict_options.length,
            seed=predict_options.seed,
        )
        answers = []
        for number, seed in enumerate(inputs):
            beginning = piano_rolls.transposed(seed, octave)
            composed = composer.predict(beginning[None].astype("float32"), verbose=0)[0]
            roll = np.concatenate([beginning, composed]).astype("uint8")
            # Transpose down again, without the notes that would leave the keyboard.
            roll = np.pad(roll[:, octave:], ((0, 0), (0, octave)))
            if places is None:
                answers.append(music.written(roll[len(seed) :]))
                continue
            midi, picture = (places[number].with_name(places[number].name + x) for x in self.makes)
            music.write_midi(roll, midi, tempo=predict_options.tempo)
            title = textwrap.shorten(music.written(seed), 60, placeholder=" ...")
            music.draw(roll, picture, title, seed=len(seed))
            answers.append(f"{midi}, {picture}")
        return answers

    def example(self, data: Data, index: int) -> "np.ndarray":
        """The first chords of a test piece."""
        from kerasrnn.recipes.datasets import piano_rolls

        octave = self.octave(data.metadata)
        return piano_rolls.transposed(data.raw["test"][index][:4].astype("uint8"), -octave)

    def exports(
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        from kerasrnn import zoo

        return {
            "model": (model, [roll[None] for roll in data.raw["test"][:8]]),
            "step": (zoo.encoder_and_step(model).step, True),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        from kerasrnn.recipes.datasets.piano_rolls import LOWEST
        from kerasrnn.recipes.tasks import music

        (name,) = self.trained_model(model).output_names
        return {name: {"flags": [music.pitch_name(LOWEST + key) for key in range(KEYS)]}}

    def tiny(self) -> options.Config:
        return dataclasses.replace(super().tiny(), units=8, batch_size=2)


def _pieces(rolls: Sequence["np.ndarray"]) -> "tf.data.Dataset":
    import tensorflow as tf

    spec = tf.TensorSpec((None, KEYS), "float32")
    return tf.data.Dataset.from_generator(lambda: iter(rolls), output_signature=spec).apply(
        tf.data.experimental.assert_cardinality(len(rolls))
    )


def _inside(shift: Any) -> Any:
    """The keys that stay on the keyboard after a transposition by `shift`."""
    import tensorflow as tf

    keys = tf.range(KEYS)
    return tf.cast((keys >= shift) & (keys < KEYS + shift), "float32")


def nats_per_frame(probabilities: Sequence["np.ndarray"], rolls: Sequence["np.ndarray"]) -> float:
    """The sum over the keys, averaged over all frames except each piece's first."""
    import numpy as np

    total, frames = 0.0, 0
    for p, roll in zip(probabilities, rolls, strict=True):
        p = np.clip(p.astype("float64"), 1e-7, 1 - 1e-7)
        total -= np.where(roll[1:] > 0, np.log(p), np.log1p(-p)).sum()
        frames += len(p)
    return float(total / frames)


def baseline_models(rolls: Sequence["np.ndarray"]) -> dict[str, Any]:
    """Baselines without recurrence: key frequencies, and a linear model of the previous frame."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    before = np.concatenate([roll[:-1] for roll in rolls])
    after = np.concatenate([roll[1:] for roll in rolls])
    often = (after.sum(axis=0) + 1) / (len(after) + 2)
    fitted = {
        key: LogisticRegression(C=0.3, max_iter=500).fit(before, after[:, key])
        for key in np.flatnonzero(after.any(axis=0) & ~after.all(axis=0))
    }

    def linear(frames: "np.ndarray") -> "np.ndarray":
        guessed = np.tile(often, (len(frames), 1))
        for key, model in fitted.items():
            guessed[:, key] = model.predict_proba(frames)[:, 1]
        return guessed

    return {
        "frequencies": lambda frames: np.tile(often, (len(frames), 1)),
        "linear": linear,
    }
