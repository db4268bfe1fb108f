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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.tasks.polyphony import SPLITS, Polyphony

if TYPE_CHECKING:
    import numpy as np


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
    epochs: int = options.default("epochs", 160)
    batch_size: int = options.option(8, "pieces per step", low=1)
    learning_rate: float = options.default("learning_rate", 6e-3)
    warmup: float = options.default("warmup", 0.05)
    weight_decay: float = options.default("weight_decay", 0.5)
    keep: str = options.default("keep", "best")
    cell: str = options.cell("gru")
    units: int = options.option(320, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)
    recurrent_dropout: float = options.option(
        0.65, "dropout rate of the recurrent state", low=0.0, below=1.0
    )


class BachChorales(Polyphony):
    """A recurrent network reads the chords and predicts, for each key, whether it sounds next."""

    name = "bach_chorales"
    dataset = "jsb_chorales"
    card = Card(
        title="Polyphonic music modeling: Bach chorales, one quarter note per step",
        topology="synced many-to-many, multi-label",
        result=(
            "negative log-likelihood 8.379 nats per frame with GRU (mean of three seeds), in 5 "
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
    variants: ClassVar = {
        "SimpleRNN": {"cell": "simple_rnn"},
        "LSTM": {"cell": "lstm"},
        "GRU": {"cell": "gru"},
        "GRU, moved by up to 5 semitones": {"cell": "gru", "transpose": 5},
    }
    published_variant = "GRU"

    def rolls(self, config: Config, data_dir: str | None = None) -> dict[str, list["np.ndarray"]]:
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(config.dataset, SPLITS, data_dir)
        return {
            name: [x["frames"].astype("float32") for x in examples.as_numpy_iterator()]
            for name, examples in splits.items()
        }

    def octave(self, metadata: Mapping[str, Any]) -> int:
        # The official pieces are written an octave above the sung pitch.
        return 12 if metadata["dataset"] == "jsb_chorales" else 0


RECIPE: Any = BachChorales()
