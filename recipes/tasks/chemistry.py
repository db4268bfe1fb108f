"""Shared code of the molecule recipes: generates SMILES strings; RDKit checks and draws them.

A generated string is a valid molecule if RDKit can parse it.
"""

import dataclasses
import itertools
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.files import replacing
from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import splits
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.recipe import Data, Runtime, as_keras
from kerasrnn.recipes.tasks.short_texts import EDGE, ShortTexts
from kerasrnn.recipes.tasks.text import read_text

if TYPE_CHECKING:
    import keras

HELD_OUT = 0.1
"""The approximate fraction of the user's own molecules that are test data."""

CHECKED = 100
"""Number of the user's own molecules that RDKit checks before training."""

UNIQUE_OF = 10_000
"""Number of valid strings that are checked for duplicates, as in MOSES."""

ORDERS = (6, 10)
"""Orders of the n-gram baselines."""

PICTURED = 24
COLUMNS = 4
SIDE = 260
"""Molecules in a picture of examples and in a row; pixels of a drawn molecule."""


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the generation."""

    count: int = options.option(12, "number of molecules for each beginning", low=1)
    temperature: float = options.option(
        1.0, "sampling temperature: below 1 favours likely symbols, above 1 unlikely ones", low=0.01
    )
    seed: int = options.option(0, "random seed of the sampling", low=0, high=options.HIGHEST_SEED)


class MoleculeModel(ShortTexts):
    """A character model of SMILES strings.

    A recipe implements `molecules`. Its options include `longest`, and `samples`, the number of
    molecules generated for the evaluation.
    """

    PredictOptions = PredictOptions
    noun = "molecule"
    makes = (".png",)
    input_help = 'the beginning of a SMILES string, in quotation marks; "" for any molecule'

    @abstractmethod
    def molecules(
        self, config: Any, data_dir: str | None = None
    ) -> tuple[Sequence[str], Sequence[str]]:
        """The training and test molecules."""

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        check_rdkit()  # fail now, not after training
        return self.short_texts(*self.molecules(config, data_dir), config)

    def evaluate(
        self, model: "keras.Model", data: Data, config: Any, folder: Path
    ) -> dict[str, float]:
        written = self.write(model, data.metadata, [""] * config.samples, seed=config.seed)
        molecules = parsed(written)
        known = set(data.raw["train"])
        nats = self.nats(self.trained_model(model), data, config)
        new = (m for m in molecules if m is not None and canonical(m) not in known)
        draw(list(itertools.islice(new, PICTURED)), folder / "examples.png")
        return scores(molecules, known) | _of_nats(nats)

    def baselines(self, data: Data, config: Any) -> dict[str, float]:
        from kerasrnn.text import ngrams

        possible = ngrams.greatest_order(len(data.metadata["vocabulary"]))
        return {
            f"baseline_{order}-grams_{metric}": value
            for order in ORDERS
            if order <= possible
            for metric, value in _ngrams(data, order, config).items()
        }

    def evaluate_exported(
        self, run: Runtime, model: "keras.Model", data: Data, config: Any, folder: Path
    ) -> dict[str, float]:
        """Only the loss, which is deterministic."""
        return _of_nats(self.nats(as_keras(run, self.trained_model(model)), data, config))

    def parse_input(self, text: str) -> str:
        if any(character.isspace() for character in text):
            raise ConfigError(f"{text!r}: expected the beginning of a SMILES string; found spaces.")
        return text

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[str],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        check_rdkit()
        beginnings = [beginning for beginning in inputs for _ in range(predict_options.count)]
        written = self.write(
            model,
            metadata,
            beginnings,
            predict_options.temperature,
            predict_options.seed,
        )
        molecules = parsed(written)
        answers = []
        for n, start in enumerate(range(0, len(written), predict_options.count)):
            part = slice(start, start + predict_options.count)
            lines = [
                f"    {smiles}{'' if molecule is not None else '  (invalid)'}"
                for smiles, molecule in zip(written[part], molecules[part], strict=True)
            ]
            valid = [molecule for molecule in molecules[part] if molecule is not None]
            head = f"{len(valid)} of {predict_options.count} are valid molecules"
            if places is not None and valid:
                picture = places[n].with_name(f"{places[n].name}.png")
                draw(valid, picture)
                head += f", drawn in {picture}"
            answers.append("\n".join([head, *lines]))
        return answers

    def tiny(self) -> options.Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=4, batch_size=8, samples=20, longest=20
        )


def check_rdkit() -> None:
    """Check that RDKit is installed.

    Raises:
        ConfigError: RDKit is not installed.
    """
    try:
        import rdkit  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(
            "molecules: needs rdkit, which checks whether strings are molecules; install it with "
            "`pip install 'kerasrnn[chemistry]'`."
        ) from None


def parsed(written: Sequence[str]) -> list[Any]:
    """Parse SMILES strings with RDKit; None for invalid strings."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():  # RDKit logs a line for each invalid string
        return [Chem.MolFromSmiles(smiles) if smiles else None for smiles in written]


def canonical(molecule: Any) -> str:
    """RDKit's canonical SMILES string of a molecule."""
    from rdkit import Chem

    return Chem.MolToSmiles(molecule)


def scores(molecules: Sequence[Any], known: Collection[str]) -> dict[str, float]:
    """The fractions of valid, unique and novel molecules.

    Args:
        molecules: as returned by `parsed`.
        known: the training molecules.
    """
    valid = [canonical(molecule) for molecule in molecules if molecule is not None]
    first, different = valid[:UNIQUE_OF], set(valid)
    return {
        "test_valid": len(valid) / len(molecules),
        "test_unique": len(set(first)) / max(len(first), 1),
        "test_novel": len(different.difference(known)) / max(len(different), 1),
    }


def _of_nats(nats: float) -> dict[str, float]:
    return {"test_nats": nats, "test_perplexity": math.exp(nats)}


def _ngrams(data: Data, order: int, config: Any) -> dict[str, float]:
    """The model's metrics for character n-grams."""
    import numpy as np

    from kerasrnn.text import ngrams

    # Enough end symbols to keep the previous molecule out of a character's context.
    edges = EDGE * (order - 1)
    model = ngrams.NGrams(edges + "".join(x + edges for x in data.raw["train"]), order)
    test = edges + "".join(x + edges for x in data.raw["test"])
    ends = np.array([character == EDGE for character in test])
    # Only an end symbol that follows a character counts.
    counted = ~ends | np.append(False, ~ends[:-1])
    written = model.write(config.samples, edges, EDGE, config.longest, config.seed)
    return {
        **scores(parsed(written), set(data.raw["train"])),
        **_of_nats(float(model.nats(test)[counted].mean())),
    }


def draw(molecules: Sequence[Any], path: Path) -> None:
    """Draw molecules, each above its string, into a PNG file."""
    from rdkit.Chem.Draw import rdMolDraw2D

    columns = max(1, min(COLUMNS, len(molecules)))
    rows = max(1, -(-len(molecules) // columns))
    canvas = rdMolDraw2D.MolDraw2DCairo(columns * SIDE, rows * SIDE, SIDE, SIDE)
    canvas.drawOptions().padding = 0.08
    canvas.DrawMolecules(list(molecules), legends=[canonical(molecule) for molecule in molecules])
    canvas.FinishDrawing()
    with replacing(path) as scratch:
        scratch.write_bytes(canvas.GetDrawingText())


def read_molecules(path: str, limit: int = 0) -> tuple[list[str], list[str]]:
    """Read the user's own molecules; whether one is test data depends only on its string.

    Args:
        path: a file with one SMILES string per line.
        limit: the largest number of training molecules; 0: all.

    Returns:
        The training and the test molecules.

    Raises:
        DatasetError: the file cannot be read; a line, which the message names, is not a SMILES
            string; or no molecules are left for training or for testing.
    """
    train: list[str] = []
    test: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        smiles = line.strip()
        if not smiles:
            continue
        place = f"{path}, line {number}: expected a SMILES string; found {smiles!r}, which"
        if len(smiles.split()) > 1:
            raise DatasetError(f"{place} has spaces.")
        # Detect a wrong file early; parsing all strings would take minutes.
        if len(train) + len(test) < CHECKED and parsed([smiles]) == [None]:
            raise DatasetError(f"{place} RDKit cannot read.")
        (test if splits.place(smiles) < HELD_OUT else train).append(smiles)
    splits.check_parts(path, {"training": train, "testing": test}, HELD_OUT, "molecule")
    return train[: limit or None], test
