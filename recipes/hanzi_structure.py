"""Image-to-sequence: from the image of a Chinese character to its ideographic description.

Paper: Zhang, Zhu, Du & Dai (2018), "Radical analysis network for zero-shot learning in printed
Chinese character recognition", ICME, arXiv 1711.01889, for the task; Vinyals et al. (2015), "Show
and tell: a neural image caption generator", CVPR, for the topology.

    kerasrnn train hanzi_structure
    kerasrnn train hanzi_structure --mode state
    kerasrnn predict hanzi_structure picture.png --test 0 1 2

The test characters do not occur in training in any font weight; their components do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.config import Options
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.image_to_text import (
    END,
    START,
    Config,
    ImageToText,
    nearest_sequences,
    teacher_forced,
)

if TYPE_CHECKING:
    import numpy as np


class HanziStructure(ImageToText):
    """A convolutional network encodes the image; a recurrent network writes the components."""

    name = "hanzi_structure"
    dataset = "ideographs"
    card = Card(
        title="Image-to-sequence: the structure of Chinese characters",
        topology="one-to-many",
        result="29.6% of unseen characters without an error, in 12 minutes on one core",
        protocol=(
            "Trained on four fifths of the 3,755 characters of GB 2312 level 1 in seven weights of "
            "one typeface; evaluated, with greedy decoding, on characters that occur in no other "
            "split, in all weights. Symbol error rate: edit (Levenshtein) distance divided by the "
            "length of the reference. The default mode was chosen on the validation characters; "
            "dropout and stretching are the same for all three modes and were not tuned for each. "
            "The baseline predicts the sequence of the nearest training image, pixel by pixel. "
            "Data: cjkvi-ids (GPL-2.0-or-later) and Noto Sans CJK (OFL-1.1), read at run time and "
            "not redistributed."
        ),
        metrics=("test_exact_match", "test_symbol_error_rate", "test_well_formed"),
        limits=(
            "For seven unseen characters in ten, at least one component is wrong, most often a "
            "rare one. The model has seen neither other typefaces nor handwriting."
        ),
    )
    variants: ClassVar = {
        "vector before the first symbol": {"mode": "first"},
        "vector at every symbol": {"mode": "every"},
        "vector as the state": {"mode": "state"},
    }
    published_variant = "vector at every symbol"
    lengths: ClassVar[Sequence[int]] = (8, 12, 26)
    input_help = "image files of one character each, dark on light, of any size"

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        from kerasrnn.recipes import datasets
        from kerasrnn.recipes.datasets.ideographs.ideographs_dataset_builder import fetch_face

        splits, info = datasets.load(self.dataset, ("train", "validation", "test"), data_dir)
        # Decoding the images would take a fifth of each epoch.
        splits = {name: split.cache() for name, split in splits.items()}
        sequences = {
            name: [x["sequence"].decode() for x in splits[name].as_numpy_iterator()]
            for name in ("train", "test")
        }
        symbols = [END, START, *text.adapted(sequences["train"])]
        numbers = text.vectorizer(symbols)

        def pair(example: Mapping[str, Any]) -> Any:
            return teacher_forced(example["image"], numbers, example["sequence"])

        sizes = {name: int(split.cardinality()) for name, split in splits.items()}
        return Data(
            train=splits["train"].map(pair),
            test=splits["test"].map(pair),
            train_size=sizes["train"],
            test_size=sizes["test"],
            validation=splits["validation"].map(pair),
            validation_size=sizes["validation"],
            metadata={"vocabulary": symbols, "shape": list(info.features["image"].shape)},
            raw={
                "train": splits["train"],
                "test": splits["test"],
                "test_texts": sequences["test"],
                "face": fetch_face(data_dir),
            },
        )

    def test_pictures(self, data: Data) -> "np.ndarray":
        import numpy as np

        return np.stack([x["image"] for x in data.raw["test"].as_numpy_iterator()]).astype(
            "float32"
        )

    def evaluate_predictions(
        self, predictions: Sequence[str], data: Data, folder: Path
    ) -> dict[str, float]:
        examples = list(data.raw["test"].as_numpy_iterator())
        _draw(examples, predictions, data.raw["face"], folder / "examples.png")
        return _scores(data.raw["test_texts"], predictions)

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        nearest = nearest_sequences(data.raw["train"], self.test_pictures(data))
        scores = _scores(data.raw["test_texts"], nearest)
        return {f"baseline_nearest_picture_{name}": value for name, value in scores.items()}

    def parse_input(self, text: str) -> "np.ndarray":
        import numpy as np
        from PIL import Image, ImageOps

        from kerasrnn.recipes.datasets.ideographs.ideographs_dataset_builder import SIZE
        from kerasrnn.recipes.tasks.images import read_image

        image = read_image(text)
        if image.has_transparency_data:
            ink = image.convert("RGBA")
            # Transparent pixels are background.
            image = Image.alpha_composite(Image.new("RGBA", ink.size, "white"), ink)
        paper = ImageOps.invert(ImageOps.pad(image.convert("L"), (SIZE, SIZE), color=255))
        return np.asarray(paper)[..., None]

    def example(self, data: Data, index: int) -> "np.ndarray":
        return next(data.raw["test"].skip(index).as_numpy_iterator())["image"]

    def expected(self, data: Data, index: int, predict_options: Options) -> str:
        return data.raw["test_texts"][index]


def _scores(expected: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    import jiwer
    import numpy as np

    from kerasrnn.recipes.datasets.ideographs.sequences import well_formed

    return {
        "test_exact_match": float(
            np.mean([x == y for x, y in zip(expected, predictions, strict=True)])
        ),
        "test_symbol_error_rate": float(jiwer.wer(list(expected), list(predictions))),
        "test_well_formed": float(np.mean([well_formed(y.split()) for y in predictions])),
    }


def _draw(
    examples: Sequence[Mapping[str, Any]],
    predictions: Sequence[str],
    face: Any,
    path: Path,
    count: int = 24,
) -> None:
    """Draw characters with their true sequences and, below, the predictions; errors are red."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from kerasrnn.recipes.datasets.ideographs.ideographs_dataset_builder import draw
    from kerasrnn.recipes.reporting.pictures import save

    chosen = np.linspace(0, len(examples) - 1, count).astype(int)
    columns, widest = 3, 12
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * columns, 0.75 * rows), layout="constrained")
    figure.suptitle(
        "character: the true components above, the prediction below (crossed box: a component "
        "that the typeface lacks)"
    )
    for panel, n in zip(figure.subplots(rows, columns).ravel(), chosen, strict=True):
        expected = examples[n]["sequence"].decode()
        panel.imshow(examples[n]["image"][..., 0], cmap="Greys", extent=(0, 2, 0, 2))
        color = "#2b7a3d" if predictions[n] == expected else "#b3261e"
        for bottom, symbols, ink in ((1, expected, "#333333"), (0, predictions[n], color)):
            # The typeface of the images has every component; matplotlib's own has none.
            row = symbols.split()
            if len(row) > widest:
                row = [*row[: widest - 1], "…"]
            glyphs = [draw(symbol, face)[..., 0] for symbol in row]
            if glyphs:
                shades = LinearSegmentedColormap.from_list("ink", ["white", ink])
                right = 2.3 + len(glyphs)
                panel.imshow(
                    np.concatenate(glyphs, axis=1),
                    cmap=shades,
                    extent=(2.3, right, bottom + 0.02, bottom + 0.98),
                )
        panel.set(xlim=(0, 2.3 + widest), ylim=(0, 2))
        panel.axis("off")
    save(figure, path)


RECIPE: Any = HanziStructure()
