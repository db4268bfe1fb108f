"""Polyphonic music modeling: Bach chorales as frames of notes, one quarter note per frame.

Papers: Boulanger-Lewandowski, Bengio & Vincent (2012), "Modeling temporal dependencies in
high-dimensional sequences", ICML, for the task; Chung et al. (2014), "Empirical evaluation of gated
recurrent neural networks on sequence modeling", arXiv 1412.3555; Bai, Kolter & Koltun (2018), "An
empirical evaluation of generic convolutional and recurrent networks for sequence modeling", arXiv
1803.01271, Table 1.

    kerasrnn train bach_chorales --cell gru
    kerasrnn train bach_chorales --dataset music21_chorales     (without the official file)
    kerasrnn predict bach_chorales "C3 G3 E4 C5" --length 64
    kerasrnn predict bach_chorales "C3 G3 E4 C5" --output music    (a MIDI file and a picture)
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.lengths import bucketed
from kerasrnn.recipes.base.recipe import Data, Recipe

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

KEYS = 88
PADDING = -1.0  # a frame of zeros is silence
LENGTHS = (32, 48, 64, 96, 160, 320)


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    dataset: str = options.option(
        "jsb_chorales",
        "the official split; or a dataset made from music21's scores, which is not identical to it",
        choices=("jsb_chorales", "music21_chorales"),
    )
    transpose: int = options.option(
        0, "data augmentation: the largest random transposition, in semitones", low=0
    )
    epochs: int = options.option(160, "passes over the training data", low=1)
    batch_size: int = options.option(8, "pieces per step", low=1)
    learning_rate: float = options.option(6e-3, "peak learning rate", low=1e-6)
    warmup: float = options.option(
        0.05,
        "fraction of the steps over which the learning rate warms up from zero",
        low=0.0,
        below=1.0,
    )
    weight_decay: float = options.option(0.5, "decoupled weight decay (AdamW)", low=0.0)
    keep: str = options.option(
        "best",
        "which weights to keep: those of the last epoch, or those with the lowest validation loss",
        choices=("last", "best"),
    )
    cell: str = options.option("gru", "recurrent cell", choices=options.CELLS)
    units: int = options.option(320, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)
    recurrent_dropout: float = options.option(
        0.65, "dropout rate of the recurrent state", low=0.0, below=1.0
    )


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


class BachChorales(Recipe):
    """A recurrent network reads the chords and predicts, for each key, whether it sounds next."""

    name = "bach_chorales"
    dataset = "jsb_chorales"
    card = Card(
        title="Polyphonic music modeling: Bach chorales, one quarter note per step",
        topology="synced many-to-many, multi-label",
        result=(
            "negative log-likelihood 8.379 nats a frame with GRU (mean of three seeds), in 5 "
            "minutes"
        ),
        protocol=(
            "The official split: 229 training, 76 validation and 77 test pieces; the epoch is "
            "chosen on the validation pieces. The metric is the negative log-likelihood per frame: "
            "the sum over the 88 keys, averaged over all frames of the test pieces except the "
            "first frame of each piece. Size, dropout and weight decay were tuned with GRU on the "
            "validation pieces and reused for the other cells. The official pieces are all in C; a "
            "variant's name states whether pieces were transposed at random. Data: the file's "
            "repository states no licence; the file is read at run time and not redistributed."
        ),
        metrics=("test_nats_per_frame",),
        lower_is_better=True,
        limits=(
            "The model writes four voices in C, quarter note by quarter note, without structure "
            "beyond a few bars: cadences occur by chance, and voices may cross."
        ),
        published=tuple(
            Published(model, source, {"test_nats_per_frame": nats})
            for source, figures in (
                ("Bai et al. 2018, Table 1", {"RNN": 8.91, "GRU": 8.43, "LSTM": 8.45, "TCN": 8.10}),
                (
                    "Chung et al. 2014, Table 2, by a transcription",
                    {"tanh": 9.10, "GRU": 8.54, "LSTM": 8.67},
                ),
            )
            for model, nats in figures.items()
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("simple_rnn", "lstm", "gru"),
        "units": space.integers(128, 512, step=64),
        "depth": space.integers(1, 2),
        "dropout": space.floats(0.0, 0.7),
        "recurrent_dropout": space.floats(0.0, 0.8),
        "learning_rate": space.floats(1e-3, 2e-2, log=True),
        "weight_decay": space.floats(0.01, 1.0, log=True),
        "transpose": space.integers(0, 6),
        **space.CLIPPING,
    }
    PredictOptions = PredictOptions
    variants: ClassVar = {
        "SimpleRNN": {"cell": "simple_rnn"},
        "LSTM": {"cell": "lstm"},
        "GRU": {"cell": "gru"},
        "GRU, moved by up to 5 semitones": {"cell": "gru", "transpose": 5},
    }
    published_variant = "GRU"
    makes = (".mid", ".png")
    input_help = (
        'one or more chords to begin with, such as "C3 G3 E4 C5" or "48 55 64 72, 50 57 65 74"'
    )

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(config.dataset, ("train", "validation", "test"), data_dir)
        rolls = {
            name: [x["frames"].astype("float32") for x in dataset.as_numpy_iterator()]
            for name, dataset in splits.items()
        }
        return Data(
            train=_pieces(rolls["train"]),
            test=_pieces(rolls["test"]),
            train_size=len(rolls["train"]),
            test_size=len(rolls["test"]),
            validation=_pieces(rolls["validation"]),
            validation_size=len(rolls["validation"]),
            metadata={"dataset": config.dataset},
            raw=rolls,
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
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

    def loss(self, config: Config) -> str:
        return "binary_crossentropy"

    def fit_metrics(self, config: Config) -> tuple[str, ...]:
        return ()

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
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
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        test = data.raw["test"]
        probabilities = [model.predict(roll[None, :-1], verbose=0)[0] for roll in test]
        return {"test_nats_per_frame": _nats(probabilities, test)}

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        test = data.raw["test"]
        return {
            f"baseline_{name}_test_nats_per_frame": _nats([guess(roll[:-1]) for roll in test], test)
            for name, guess in _baselines(data.raw["train"]).items()
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

        # The official pieces are written an octave above the sung pitch.
        octave = 12 if metadata["dataset"] == "jsb_chorales" else 0
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
            given = piano_rolls.transposed(seed, octave)
            composed = composer.predict(given[None].astype("float32"), verbose=0)[0]
            roll = np.concatenate([given, composed]).astype("uint8")
            # Down again; no voice sings what would leave the keyboard there.
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

        octave = 12 if data.metadata["dataset"] == "jsb_chorales" else 0
        return piano_rolls.transposed(data.raw["test"][index][:4].astype("uint8"), -octave)

    def exports(
        self, model: "keras.Model", data: Data, config: Config
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

    def tiny(self) -> Config:
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


def _nats(probabilities: Sequence["np.ndarray"], rolls: Sequence["np.ndarray"]) -> float:
    """The sum over the keys, averaged over all frames except each piece's first."""
    import numpy as np

    total, frames = 0.0, 0
    for p, roll in zip(probabilities, rolls, strict=True):
        p = np.clip(p.astype("float64"), 1e-7, 1 - 1e-7)
        total -= np.where(roll[1:] > 0, np.log(p), np.log1p(-p)).sum()
        frames += len(p)
    return float(total / frames)


def _baselines(rolls: Sequence["np.ndarray"]) -> dict[str, Any]:
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


RECIPE: Any = BachChorales()
