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

import collections
import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.files import replacing
from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base import splits
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.lengths import bucketed
from kerasrnn.recipes.base.recipe import Data, Recipe, Runtime, as_keras
from kerasrnn.recipes.tasks import text
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EDGE = "\n"
"""The symbol before a molecule's first character and after its last."""

HELD_OUT = 0.1  # of the user's own molecules
CHECKED = 100
"""Number of the user's own molecules that RDKit checks before training."""

TESTED = 20_000
"""Number of test molecules for the loss: the first ones, which are a random sample."""

UNIQUE_OF = 10_000
"""Number of valid strings that are checked for duplicates, as in the benchmark."""

ORDERS = (6, 10)  # orders of the n-gram baselines
PICTURED = 24
COLUMNS = 4
SIDE = 260  # pixels of a drawn molecule


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
    epochs: int = options.option(1, "passes over the training data", low=1)
    batch_size: int = options.option(64, "molecules per step", low=1)
    learning_rate: float = options.option(5e-3, "peak learning rate", low=1e-6)
    warmup: float = options.option(
        0.05,
        "fraction of the steps over which the learning rate warms up from zero",
        low=0.0,
        below=1.0,
    )
    cell: str = options.option("lstm", "recurrent cell", choices=options.CELLS)
    embedding: int = options.option(32, "size of the character embeddings", low=1)
    units: int = options.option(512, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.0, "dropout rate", low=0.0, below=1.0)
    samples: int = options.option(
        10_000, "number of molecules generated for the evaluation, at temperature 1", low=1
    )


@dataclass(frozen=True)
class PredictOptions(options.Options):
    """Options of the generation."""

    count: int = options.option(12, "number of molecules for each beginning", low=1)
    temperature: float = options.option(
        1.0, "sampling temperature: below 1 favours likely symbols, above 1 unlikely ones", low=0.01
    )
    seed: int = options.option(0, "random seed of the sampling", low=0, high=options.HIGHEST_SEED)


class Molecules(Recipe):
    """A recurrent network reads the characters of a molecule and predicts the next one."""

    name = "molecules"
    dataset = "moses"
    card = Card(
        title="Molecule generation: a language model of SMILES strings",
        topology="synced many-to-many",
        result=(
            "94 % of the strings generated with LSTM are valid molecules, 96 % of these new, in 31 "
            "minutes on one core; 10-grams: 20 % valid"
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
        metrics=("test_valid", "test_unique", "test_novel", "test_nats"),
        limits=(
            "The model generates drug-like molecules: small, uncharged, of C, N, O, S, F, Cl and "
            "Br. It predicts neither whether a molecule can be synthesized nor its effects."
        ),
        published=(
            Published(
                "CharRNN",
                "MOSES's README",
                {"test_valid": 0.9748, "test_unique": 0.9994, "test_novel": 0.8419},
            ),
            Published(
                "variational autoencoder",
                "MOSES's README",
                {"test_valid": 0.9767, "test_unique": 0.9984, "test_novel": 0.6949},
            ),
            Published(
                "n-grams",
                "MOSES's README",
                {"test_valid": 0.2376, "test_unique": 0.9217, "test_novel": 0.9694},
            ),
            Published(
                "hidden Markov model",
                "MOSES's README",
                {"test_valid": 0.076, "test_unique": 0.5671, "test_novel": 0.9994},
            ),
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
    PredictOptions = PredictOptions
    variants: ClassVar = {"LSTM": {}, "GRU": {"cell": "gru"}}
    published_variant = "LSTM"
    lengths: ClassVar[Sequence[int]] = (32, 36, 40, 44, 58, 80, 112, 160, 256, 512)
    """Lengths that molecules are padded to, up to one more than the longest."""

    makes = (".png",)
    input_help = 'the beginning of a SMILES string, in quotation marks; "" for any molecule'

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        _rdkit()  # fail now, not after training
        if config.data:
            train, test = _own(config.data, config.limit)
        else:
            train, test = _tfds(config.limit, data_dir)
        train, test = (
            [smiles for smiles in part if len(smiles) <= config.longest] for part in (train, test)
        )
        for part, molecules in (("training", train), ("testing", test)):
            if not molecules:
                raise ConfigError(
                    f"longest={config.longest}: expected molecules up to this length for {part}; "
                    "found none."
                )
        counts = collections.Counter("".join(train))
        symbols = [EDGE, *(symbol for symbol, _ in counts.most_common())]
        return Data(
            train=_numbered(train, symbols),
            test=_numbered(test, symbols),
            train_size=len(train),
            test_size=len(test),
            metadata={"vocabulary": symbols, "longest": config.longest},
            raw={"train": train, "test": test},
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.next_step(
            zoo.Classes(len(data.metadata["vocabulary"]) + 2),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            embedding_units=config.embedding,
            dropout=config.dropout,
            name=self.name,
        )

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        numbers = text.vectorizer(data.metadata["vocabulary"], split="character")
        return text.attach(model, {"sequence": numbers})

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        return text.trained_model(model)

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        lengths = [n for n in self.lengths if n <= config.longest]
        return bucketed(dataset, [*lengths, config.longest + 1], config.batch_size, training)

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        trained = self.trained_model(model)
        written = self.write(trained, data.metadata, [""] * config.samples, seed=config.seed)
        molecules = parsed(written)
        known = set(data.raw["train"])
        metrics = _scores(molecules, known) | _of_nats(self._nats(trained, data, config))
        new = (m for m in molecules if m is not None and canonical(m) not in known)
        draw(list(itertools.islice(new, PICTURED)), folder / "examples.png")
        return metrics

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        from kerasrnn.recipes.tasks import ngrams

        possible = ngrams.greatest_order(len(data.metadata["vocabulary"]))
        return {
            f"baseline_{order}-grams_{metric}": value
            for order in ORDERS
            if order <= possible
            for metric, value in _ngrams(data, order, config).items()
        }

    def evaluate_exported(
        self, run: Runtime, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        """Only the loss, which is deterministic."""
        return _of_nats(self._nats(as_keras(run, self.trained_model(model)), data, config))

    def _nats(self, trained: "keras.Model", data: Data, config: Config) -> float:
        """The loss per character of the test molecules, end symbols included."""
        import numpy as np

        total, count = 0.0, 0
        wide = dataclasses.replace(config, batch_size=max(config.batch_size, 256))
        for previous, following in self.batches(data.test, wide).as_numpy_iterator():
            probabilities = trained.predict_on_batch(previous)
            right = np.take_along_axis(probabilities, following[..., None], axis=-1)[..., 0]
            total -= np.log(right[following > 0].astype("float64")).sum()
            count += int((following > 0).sum())
        return total / count

    def write(
        self,
        trained: "keras.Model",
        metadata: Mapping[str, Any],
        beginnings: Sequence[str],
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """Generate a string from each beginning.

        Raises:
            ConfigError: a beginning has a character that no training molecule has, or is longer
                than the longest of them may be.
        """
        import numpy as np

        from kerasrnn import decoding, zoo

        symbols, longest = ["", "�", *metadata["vocabulary"]], metadata["longest"]
        for beginning in beginnings:
            for character in beginning:
                if character not in metadata["vocabulary"]:
                    known = "".join(sorted(metadata["vocabulary"])).strip()
                    raise ConfigError(
                        f"{beginning!r}: expected characters of the training molecules, {known}; "
                        f"found {character!r}."
                    )
            if len(beginning) > longest:
                raise ConfigError(
                    f"{beginning!r}: expected {longest} characters at most, the longest that is "
                    f"written; found {len(beginning)}."
                )
        edge = symbols.index(EDGE)
        writer = zoo.generator(
            trained,
            decoding.Sample(temperature),
            max_length=longest + 1,
            start=edge,
            end=edge,
            seed=seed,
            max_lengths=True,
            forbidden=[symbols.index("�")],
        )
        prompts = np.zeros((len(beginnings), max(1, *map(len, beginnings))), "int32")
        for row, beginning in zip(prompts, beginnings, strict=True):
            row[: len(beginning)] = [symbols.index(character) for character in beginning]
        most = np.array([longest + 1 - len(beginning) for beginning in beginnings], "int32")
        ids = writer.predict([prompts, most], batch_size=512, verbose=0)
        return [
            beginning + "".join(symbols[n] for n in row if n != edge)
            for beginning, row in zip(beginnings, ids, strict=True)
        ]

    def parse_input(self, text: str) -> str:
        if any(character.isspace() for character in text):
            raise ConfigError(f"{text!r}: expected how a SMILES string begins; found spaces.")
        return text

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[str],
        predict_options: PredictOptions,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        _rdkit()
        beginnings = [beginning for beginning in inputs for _ in range(predict_options.count)]
        written = self.write(
            self.trained_model(model),
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
                f"    {smiles}{'' if molecule is not None else '  (no molecule)'}"
                for smiles, molecule in zip(written[part], molecules[part], strict=True)
            ]
            valid = [molecule for molecule in molecules[part] if molecule is not None]
            head = f"{len(valid)} of {predict_options.count} are molecules"
            if places is not None and valid:
                picture = places[n].with_name(f"{places[n].name}.png")
                draw(valid, picture)
                head += f", drawn in {picture}"
            answers.append("\n".join([head, *lines]))
        return answers

    def example(self, data: Data, index: int) -> str:
        """The first half of a test molecule."""
        smiles = data.raw["test"][index]
        return smiles[: len(smiles) // 2]

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        import numpy as np

        from kerasrnn import zoo

        batches = [x for x, _ in self.batches(data.test, config).take(2).as_numpy_iterator()]
        lines = np.array([EDGE + smiles for smiles in data.raw["test"][:16]], dtype=object)
        trained = self.trained_model(model)
        return {
            "model": (trained, [*batches, batches[0][:1, :5]]),
            "step": (zoo.encoder_and_step(trained).step, True),
            "of_text": (model, [lines, lines[:1]]),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        described = text.described(text.vectorizer(metadata["vocabulary"], split="character"))
        (name,) = self.trained_model(model).output_names
        edge = described["symbols"].index(EDGE)
        symbols = {"symbols": described["symbols"], "separator": "", "start": edge, "end": edge}
        return {"sequence": described, name: symbols}

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=4, batch_size=8, samples=20, longest=20
        )


def _rdkit() -> None:
    """Check that RDKit is installed.

    Raises:
        ConfigError: RDKit is not installed.
    """
    try:
        import rdkit  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(
            "molecules: needs rdkit, which knows what a molecule is: pip install "
            "kerasrnn[chemistry]."
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


def _scores(molecules: Sequence[Any], known: Collection[str]) -> dict[str, float]:
    """The fractions of valid, unique and novel molecules.

    Args:
        molecules: as returned by `parsed`.
        known: the training molecules.
    """
    valid = [canonical(molecule) for molecule in molecules if molecule is not None]
    counted, different = valid[:UNIQUE_OF], set(valid)
    return {
        "test_valid": len(valid) / len(molecules),
        "test_unique": len(set(counted)) / max(len(counted), 1),
        "test_novel": len(different.difference(known)) / max(len(different), 1),
    }


def _of_nats(nats: float) -> dict[str, float]:
    import math

    return {"test_nats": nats, "test_perplexity": math.exp(nats)}


def _ngrams(data: Data, order: int, config: Config) -> dict[str, float]:
    """The model's metrics for character n-grams."""
    import numpy as np

    from kerasrnn.recipes.tasks import ngrams

    # Enough end symbols to keep the previous molecule out of a character's context.
    edges = EDGE * (order - 1)
    model = ngrams.NGrams(edges + "".join(x + edges for x in data.raw["train"]), order)
    test = edges + "".join(x + edges for x in data.raw["test"])
    ends = np.array([character == EDGE for character in test])
    # Only an end symbol that follows a character counts.
    counted = ~ends | np.append(False, ~ends[:-1])
    written = model.write(config.samples, edges, EDGE, config.longest, config.seed)
    return {
        **_scores(parsed(written), set(data.raw["train"])),
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


def _numbered(molecules: Sequence[str], symbols: Sequence[str]) -> "tf.data.Dataset":
    """`(previous ids, ids)` of each molecule, with start and end symbols."""
    import numpy as np
    import tensorflow as tf

    # Number all of them in one array and slice it: a layer would take a minute.
    whole = np.frombuffer(f"{EDGE}{EDGE.join(molecules)}{EDGE}".encode("utf-32-le"), "<u4")
    points = np.array([ord(symbol) for symbol in symbols])
    order = np.argsort(points)
    place = np.minimum(np.searchsorted(points[order], whole), len(points) - 1)
    known = points[order][place] == whole
    ids = tf.constant(np.where(known, order[place] + 2, 1), "int32")
    edges = np.flatnonzero(whole == ord(EDGE))

    def pair(start: Any, end: Any) -> Any:
        return ids[start:end], ids[start + 1 : end + 1]

    return tf.data.Dataset.from_tensor_slices((edges[:-1], edges[1:])).map(pair)


def _tfds(limit: int, data_dir: str | None) -> tuple[list[str], list[str]]:
    from kerasrnn.recipes import datasets

    parts, _ = datasets.load("moses", ("train", "test"), data_dir)
    if limit:
        parts["train"] = parts["train"].take(limit)
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


def _own(path: str, limit: int) -> tuple[list[str], list[str]]:
    """Read the user's own molecules; the split depends on each string alone."""
    train: list[str] = []
    test: list[str] = []
    for number, line in enumerate(text.read_text(path).split("\n"), start=1):
        smiles = line.strip()
        if not smiles:
            continue
        if len(smiles.split()) > 1:
            raise DatasetError(
                f"{path}, line {number}: expected a SMILES string; found {smiles!r}, which has "
                "spaces."
            )
        # Detect a wrong file early; parsing all strings would take minutes.
        if len(train) + len(test) < CHECKED and parsed([smiles]) == [None]:
            raise DatasetError(
                f"{path}, line {number}: expected a SMILES string; found {smiles!r}, which RDKit "
                "cannot read."
            )
        (test if splits.place(smiles) < HELD_OUT else train).append(smiles)
    for name, part in (("training", train), ("testing", test)):
        if not part:
            raise DatasetError(
                f"{path}: its {counted(len(train) + len(test), 'molecule')} left none for {name}; "
                f"{splits.enough(HELD_OUT)} different ones nearly always suffice."
            )
    return train[: limit or None], test


RECIPE: Any = Molecules()
