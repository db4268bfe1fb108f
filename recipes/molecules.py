"""Molecule generation: a character-level language model of SMILES strings.

Papers: Segler et al. (2018), "Generating focused molecule libraries for drug discovery with
recurrent neural networks", ACS Central Science 4, for the model; Polykovskiy et al. (2020),
"Molecular Sets (MOSES): a benchmarking platform for molecular generation models", Frontiers in
Pharmacology 11, for the data and the metrics.

    kerasrnn train molecules
    kerasrnn train molecules --data mine.smi      (one SMILES string per line)
    kerasrnn predict molecules "c1ccc2[nH]" --count 24
    kerasrnn predict molecules "" --temperature 0.7

A molecule is written as a SMILES string and learned character by character. A generated string is a
valid molecule if RDKit can parse it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.tasks.chemistry import MoleculeModel, read_molecules

METRICS = ("test_valid", "test_unique", "test_novel")
TESTED = 20_000
"""Number of test molecules for the loss: the first ones, which are a random sample."""


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    data: str = options.option(
        "", "your own file, with one SMILES string per line; a tenth of the molecules is test data"
    )
    limit: int = options.option(700_000, "largest number of training molecules; 0: all", low=0)
    longest: int = options.option(
        57,
        "largest number of characters of a molecule; longer ones are neither read nor generated",
        low=1,
    )
    epochs: int = options.default("epochs", 1)
    batch_size: int = options.option(64, "molecules per step", low=1)
    learning_rate: float = options.default("learning_rate", 5e-3)
    warmup: float = options.default("warmup", 0.05)
    cell: str = options.cell("lstm")
    embedding: int = options.option(32, "size of the character embeddings", low=1)
    units: int = options.option(512, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.0, "dropout rate", low=0.0, below=1.0)
    samples: int = options.option(
        10_000, "number of molecules generated for the evaluation, at temperature 1", low=1
    )


class Molecules(MoleculeModel):
    """A recurrent network reads the characters of a molecule and predicts the next one."""

    name = "molecules"
    dataset = "moses"
    card = Card(
        title="Molecule generation: a language model of SMILES strings",
        topology="synced many-to-many",
        result=(
            "94% of the strings generated with LSTM are valid molecules, 96% of these new, in 31 "
            "minutes on one core; 10-grams: 20% valid"
        ),
        protocol=(
            "MOSES's split and definitions: of the strings that the model generates at temperature "
            "1, those that RDKit can parse are valid; of the first 10,000 valid ones, the distinct "
            "canonical strings are unique; of these, those that are not among its training "
            "molecules are novel. Our figures are based on 10,000 strings and a model that has "
            "seen a part of the training molecules, once; the published ones on 30,000 strings and "
            "models that have seen all of them, CharRNN (3 LSTM layers of 768 units) 80 times. "
            "Nats are per character of 20,000 test molecules, end symbols included. The last "
            "weights were kept; size and learning rate were tuned in short trials on 30,000 "
            "training molecules, a tenth of them held out. Baselines: our interpolated modified "
            "Kneser-Ney n-grams. Data: MOSES, MIT licence."
        ),
        metrics=(*METRICS, "test_nats"),
        limits=(
            "The model generates drug-like molecules: small, uncharged, of C, N, O, S, F, Cl and "
            "Br. It predicts neither whether a molecule can be synthesized nor its effects."
        ),
        published=tuple(
            Published(model, "MOSES's README", dict(zip(METRICS, figures, strict=True)))
            for model, *figures in (
                ("CharRNN", 0.9748, 0.9994, 0.8419),
                ("variational autoencoder", 0.9767, 0.9984, 0.6949),
                ("n-grams", 0.2376, 0.9217, 0.9694),
                ("hidden Markov model", 0.076, 0.5671, 0.9994),
            )
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("lstm", "gru"),
        "embedding": space.powers(16, 128),
        "units": space.powers(128, 1024),
        "depth": space.integers(1, 3),
        "dropout": space.floats(0.0, 0.3),
        "learning_rate": space.floats(1e-3, 2e-2, log=True),
        **space.CLIPPING,
    }
    variants: ClassVar = {"LSTM": {}, "GRU": {"cell": "gru"}}
    published_variant = "LSTM"

    def molecules(self, config: Config, data_dir: str | None = None) -> tuple[list[str], list[str]]:
        if config.data:
            return read_molecules(config.data, config.limit)
        from kerasrnn.recipes import datasets

        parts, _ = datasets.load(self.dataset, ("train", "test"), data_dir)
        if config.limit:
            parts["train"] = parts["train"].take(config.limit)
        parts["test"] = parts["test"].take(TESTED)
        train, test = (
            [
                smiles.decode()
                for batch in split.batch(4096).as_numpy_iterator()
                for smiles in batch["smiles"]
            ]
            for split in parts.values()
        )
        return train, test


RECIPE: Any = Molecules()
