"""The interface of a recipe."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.config import Config, Options
from kerasrnn.recipes.base.search_space import Space

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


Runtime = Callable[[Sequence["np.ndarray"]], Sequence["np.ndarray"]]
"""Computes a model's outputs from input arrays in another runtime."""


@dataclass(frozen=True)
class Data:
    """Training and test data of a recipe: unbatched `(inputs, target)` datasets."""

    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    train_size: int
    test_size: int
    metadata: Mapping[str, Any]
    """Properties of the training data that the model needs, as JSON: vocabulary, classes, ..."""

    validation: "tf.data.Dataset | None" = None
    """The dataset's validation split; without one, a fraction of `train` may be held out."""

    validation_size: int = 0

    raw: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further data for the evaluation, such as texts for a baseline. Not stored in the run."""


class Recipe(ABC):
    """One task: its data, its model and its evaluation. See `kerasrnn.recipes`."""

    name: ClassVar[str]
    dataset: ClassVar[str]
    card: ClassVar[Card]
    """The content of the recipe's card besides measured results."""

    Config: ClassVar[type[Config]]
    PredictOptions: ClassVar[type[Options]] = Options
    """Options of `predict`, such as those of sampling."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named overrides of the configuration, compared side by side in the recipe's card."""

    search_space: ClassVar[Space]
    """The search space of `tune`, by option name. See `kerasrnn.recipes.base.search_space`."""

    published_variant: ClassVar[str] = ""
    """The variant whose pretrained model is included in the library: see `kerasrnn.zoo.load`."""

    shuffled: ClassVar[bool] = True
    """Whether the training examples are shuffled in each epoch."""

    input_help: ClassVar[str]
    """A description of the inputs of `predict`, which `parse_input` parses one by one."""

    makes: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the files that `predict` can write for an input, such as `(".png",)`."""

    @abstractmethod
    def load(self, config: Config, data_dir: str | None = None) -> Data:
        """Load the data; download and prepare it if necessary."""

    @abstractmethod
    def model(self, config: Config, data: Data) -> "keras.Model":
        """Build the model to train, uncompiled."""

    @abstractmethod
    def loss(self, config: Config) -> "str | keras.losses.Loss":
        """The loss, or its Keras name."""

    def fit_metrics(self, config: Config) -> "tuple[str | keras.metrics.Metric, ...]":
        """The metrics during training, besides the loss."""
        return ("accuracy",)

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        """The model to save after training, such as one with a vectorizer.

        `trained_model` reverses it.
        """
        return model

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        """The trained model inside a saved one."""
        return model

    @abstractmethod
    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        """Padded batches of static shapes, in a dataset of known length.

        In training, all batches are full, and examples may be augmented at random, depending on the
        seed.
        """

    @abstractmethod
    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, Any]:
        """Evaluate a saved model on the test data; plots are written to `folder`."""

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        """The test metrics of baselines without a network: `baseline_NAME_METRIC`."""
        return {}

    def callbacks(
        self, config: Config, data: Data, folder: Path
    ) -> Sequence["keras.callbacks.Callback"]:
        """Further callbacks of the training."""
        return ()

    @abstractmethod
    def parse_input(self, text: str) -> Any:
        """Parse one input of `predict`: a file name, or the input itself."""

    def numbering(self, model: "keras.Model") -> "keras.layers.Layer | None":
        """The layer of a saved model that vectorizes the inputs of `predict`, if they are texts.

        It is used to warn about unknown symbols. None: the inputs are not texts, or the recipe
        rejects unknown symbols.
        """
        return None

    @abstractmethod
    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence[Any],
        predict_options: Options,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        """Predict and describe each input.

        Args:
            model: the saved model.
            metadata: the `metadata` of the model's training data, read from JSON.
            inputs: as returned by `parse_input` or `example`.
            predict_options: the options of the prediction.
            places: the path of each input's files, without the suffixes in `makes`; None: no files
                are written.
        """

    def example(self, data: Data, index: int) -> Any:
        """A test example as an input of `predict`."""
        return next(data.test.skip(index).as_numpy_iterator())[0]

    def expected(self, data: Data, index: int, predict_options: Options) -> str | None:
        """The true answer to a test example, in the words of `predict`; None if it has none, or if
        `predict` itself describes it."""
        return None

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> Mapping[str, tuple["keras.Model", Sequence[Any] | bool]]:
        """The models to export by name, each with batches of inputs to verify it on besides random
        ones, or True.

        `evaluate_exported` evaluates the first one.
        """
        import keras

        batches = [x for x, _ in self.batches(data.test, config).take(4).as_numpy_iterator()]
        # A single unpadded example: batch size and length must be dynamic.
        alone = next(data.test.as_numpy_iterator())[0]
        batches.append(keras.tree.map_structure(lambda x: x[None], alone))
        return {"model": (self.trained_model(model), batches)}

    def evaluate_exported(
        self, run: Runtime, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, Any]:
        """Evaluate an exported file, the first of `exports`, with `evaluate`.

        Args:
            run: runs the exported file.
            model: the saved model that was exported.
            data: as returned by `load`.
            config: the run's configuration.
            folder: the folder for plots.
        """
        return self.evaluate(as_keras(run, self.trained_model(model)), data, config, folder)

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The meaning of the ids in the exported files, by input and output, JSON-compatible.

        docs/export.md describes the format. Empty for measurements.
        """
        if "classes" in metadata:
            (name,) = self.trained_model(model).output_names
            return {name: {"classes": list(metadata["classes"])}}
        return {}

    def compare(self, runs: Mapping[str, Sequence[Path]], place: Path) -> Mapping[str, str]:
        """Plots that compare the runs of the variants, for the card.

        Args:
            runs: folders of finished runs, by variant.
            place: the folder for the plots. Its `results.json` has the results of all variants,
                those of earlier runs included: see `kerasrnn.recipes.reporting.cards.collect`.

        Returns:
            The caption of each plot, by file name.
        """
        return {}

    def tiny(self) -> Config:
        """A configuration that runs in seconds, for tests."""
        return dataclasses.replace(self.Config(), epochs=2)


def as_keras(run: Runtime, model: "keras.Model") -> "keras.Model":
    """Wrap another runtime as a Keras model with the inputs and outputs of `model`."""
    import keras
    import tensorflow as tf

    class Other(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            tensors = keras.tree.flatten(inputs)
            results = tf.numpy_function(
                lambda *arrays: list(run(arrays)), tensors, [y.dtype for y in model.outputs]
            )
            for result, like in zip(results, model.outputs, strict=True):
                result.set_shape(like.shape)
            return results if len(results) > 1 else results[0]

        def compute_output_spec(self, inputs: Any) -> Any:
            specs = [keras.KerasTensor(y.shape, y.dtype) for y in model.outputs]
            return specs if len(specs) > 1 else specs[0]

    inputs = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in model.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    other = keras.Model(inputs, Other()(inputs))
    other.jit_compile = False
    return other
