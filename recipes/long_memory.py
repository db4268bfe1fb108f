"""Long-term dependencies: the adding problem and copy memory, with plots of the gradients.

Papers: Hochreiter & Schmidhuber (1997), "Long short-term memory", section 5.4, for adding;
Arjovsky, Shah & Bengio (2016), "Unitary evolution recurrent neural networks", for both; the
settings and figures of Bai, Kolter & Koltun (2018), "An empirical evaluation of generic
convolutional and recurrent networks for sequence modeling", arXiv 1803.01271, Table 1.

    kerasrnn train long_memory                              reduced: T = 200, in minutes
    kerasrnn train long_memory --task copy --cell lstm
    kerasrnn train long_memory --steps 600 --examples 50000     the published length

Adding: each step is a value in [0, 1] and a marker, set at two steps; the target is the sum of the
two marked values. Copying: ten symbols out of eight, blanks, then ten cues to repeat the symbols.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.memory import SYMBOLS, LongTermMemory

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    task: str = options.option("adding", "the task", choices=("adding", "copy"))
    steps: int = options.option(
        200, "T: sequence length (adding), or number of blanks (copy)", low=2
    )
    examples: int = options.option(10_000, "number of training sequences", low=1)
    epochs: int = options.default("epochs", 20)
    batch_size: int = options.option(32, "sequences per step", low=1)
    learning_rate: float = options.default("learning_rate", 4e-3)
    weight_decay: float = options.default("weight_decay", 0.0)
    cell: str = options.cell("gru")
    units: int = options.option(128, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    block: bool = options.option(
        False, "make each layer a residual block with a gate, for linear recurrences"
    )


def _of_units(*units: int) -> dict[str, dict[str, Any]]:
    """The cells of the published tables, each with its number of units."""
    cells = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}
    return {
        model: {"cell": cell, "units": size}
        for (model, cell), size in zip(cells.items(), units, strict=True)
    }


OTHERS: dict[str, dict[str, Any]] = {
    "CoRNN": {"cell": "cornn"},
    "LEM": {"cell": "lem"},
    **{
        model: {"cell": cell, "units": 32, "depth": 2, "block": True}
        for model, cell in (("MinGRU", "min_gru"), ("LRU", "lru"), ("S5", "s5"), ("HGRN", "hgrn"))
    },
}
"""Other cells: one layer of the default size, or two blocks around a linear recurrence."""

SETTINGS: tuple[tuple[str, dict[str, int], dict[str, dict[str, Any]]], ...] = (
    (
        "adding",
        {"steps": 200, "examples": 10_000, "epochs": 20},
        _of_units(128, 128, 128) | OTHERS,
    ),
    # About 70,000 parameters for adding and 16,000 for copying, as in the paper.
    ("adding", {"steps": 600, "examples": 50_000, "epochs": 10}, _of_units(262, 130, 151)),
    ("copy", {"steps": 200, "examples": 10_000, "epochs": 20}, _of_units(128, 128, 128) | OTHERS),
    ("copy", {"steps": 1000, "examples": 10_000, "epochs": 30}, _of_units(116, 55, 65)),
)
"""The tasks, their settings, and the models that are trained on them."""


class LongMemory(LongTermMemory):
    """A recurrent network must carry information across hundreds of steps."""

    name = "long_memory"
    dataset = "generated from the seed"
    card = Card(
        title="Long-term dependencies: the adding problem and copy memory",
        topology="many-to-one (adding), synced many-to-many (copy)",
        result=(
            "adding, T = 600: mean squared error 3.0e-6 with GRU, in 41 minutes; predicting "
            "the mean: 0.167"
        ),
        protocol=(
            "Training sequences are generated from the run's seed, 1,000 test sequences from one "
            "fixed seed. The loss is the squared error of the sum (adding), or the cross-entropy "
            "in nats, averaged over all steps (copy). A network without memory predicts 1, or "
            "guesses the ten symbols: the baselines are its expected losses, 1/6 and 10 ln 8 / (T "
            "+ 20)."
        ),
        metrics=("test_loss",),
        lower_is_better=True,
        published=tuple(
            Published(f"{task}, T={steps}, {model}", "Bai et al. 2018", {"test_loss": loss})
            for task, steps, figures in (
                ("adding", 600, {"RNN": 0.177, "LSTM": 0.164, "GRU": 5.3e-5}),
                ("copy", 1000, {"RNN": 0.0202, "LSTM": 0.0204, "GRU": 0.0197}),
            )
            for model, loss in figures.items()
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("simple_rnn", "lstm", "gru", "ind_rnn", "ugrnn"),
        "units": space.powers(32, 256),
        "depth": space.integers(1, 2),
        "learning_rate": space.floats(5e-4, 2e-2, log=True),
        **space.CLIPPING,
    }
    variants: ClassVar = {
        f"{task}, T={setting['steps']}, {model}": {"task": task, **setting, **options}
        for task, setting, models in SETTINGS
        for model, options in models.items()
    }

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        recurrent = {
            "cell": config.cell,
            "units": config.units,
            "depth": config.depth,
            "residual": "glu" if config.block else False,
        }
        if config.task == "adding":
            return zoo.many_to_one(
                zoo.Vectors(2, padding=None), zoo.Values(1), name=self.name, **recurrent
            )
        return zoo.many_to_many(
            zoo.Vectors(SYMBOLS + 2, padding=None),
            zoo.Classes(SYMBOLS + 2),
            name=self.name,
            **recurrent,
        )


RECIPE: Any = LongMemory()
