"""What a recipe is."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.config import Config, Options
from kerasrnn.recipes.space import Space

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


Runtime = Callable[[Sequence["np.ndarray"]], Sequence["np.ndarray"]]
"""Outputs of a model for arrays of its inputs, as another runtime computes them."""


@dataclass(frozen=True)
class Data:
    """What a recipe trains on and is judged on: unbatched `(inputs, target)` datasets."""

    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    train_size: int
    test_size: int
    facts: Mapping[str, Any]
    """What the model must know of the training data: vocabulary, statistics, classes. As JSON."""

    validation: "tf.data.Dataset | None" = None
    """The data's own validation set; without one, a fraction of `train` may be held out."""

    validation_size: int = 0

    raw: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else judging takes, such as texts for a baseline to read. No run keeps it."""


@dataclass(frozen=True)
class Published:
    """A figure that others reached, to be read beside ours."""

    model: str
    source: str
    metrics: Mapping[str, float]


class Recipe(ABC):
    """One task: its data, its model, and how it is judged. See `kerasrnn.recipes`."""

    name: ClassVar[str]
    title: ClassVar[str]
    topology: ClassVar[str]
    dataset: ClassVar[str]
    result: ClassVar[str]
    """The figure reached, with its conditions, for `kerasrnn list`."""

    protocol: ClassVar[str]
    """What was trained on, judged on and chosen by what, and the licence, for the card."""

    Config: ClassVar[type[Config]]
    Asking: ClassVar[type[Options]] = Options
    """What may be said to `predict` besides the inputs: how to sample, say."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named overrides of the configuration, compared side by side in the recipe's card."""

    searched: ClassVar[Space]
    """What `tune` searches: what may be of use, by the names of options. See `space`."""

    kept: ClassVar[str] = ""
    """The variant whose trained model comes with the library: see `kerasrnn.zoo.load`."""

    limits: ClassVar[str] = ""
    """What the trained model does not know or does badly, for its card."""

    metrics: ClassVar[tuple[str, ...]]
    """The test metrics that the card shows; the variants are compared by the first."""

    lower_is_better: ClassVar[bool] = False
    """Of the first metric."""

    published: ClassVar[Sequence[Published]] = ()
    shuffled: ClassVar[bool] = True
    """Whether the training examples come in another order in each epoch."""

    asks: ClassVar[str]
    """What the inputs of `predict` are; `read` takes one."""

    makes: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the files that `predict` can make of an input: `(".png",)`, say."""

    @abstractmethod
    def load(self, config: Config, data_dir: str | None = None) -> Data:
        """The data, downloaded and prepared if need be."""

    @abstractmethod
    def model(self, config: Config, data: Data) -> "keras.Model":
        """The model that is trained: not compiled, without weights of its own."""

    @abstractmethod
    def loss(self, config: Config) -> "str | keras.losses.Loss":
        """What is minimized, or Keras's name of it."""

    def fit_metrics(self, config: Config) -> "tuple[str | keras.metrics.Metric, ...]":
        """What is measured while training, besides the loss."""
        return ("accuracy",)

    def finished(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        """What is saved when training has ended: with its vectorizer, say. `core` undoes it."""
        return model

    def core(self, model: "keras.Model") -> "keras.Model":
        """The model that was trained, of the one that was saved."""
        return model

    @abstractmethod
    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        """Padded batches of static shapes, whose number the dataset tells.

        For training, all of a shape's batches are whole; examples may be varied at random, as the
        seed says.
        """

    @abstractmethod
    def judge(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, Any]:
        """Metrics of the model that was saved, on the test data; pictures go into `folder`."""

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        """The test metrics of what takes no network: `baseline_NAME_METRIC`."""
        return {}

    def callbacks(
        self, config: Config, data: Data, folder: Path
    ) -> Sequence["keras.callbacks.Callback"]:
        """What else watches the training."""
        return ()

    @abstractmethod
    def read(self, text: str) -> Any:
        """One input for `predict`, from what the user said: a file's name, or the input itself."""

    def numbering(self, model: "keras.Model") -> "keras.layers.Layer | None":
        """The layer of a saved model that numbers the inputs of `predict`, where they are texts.

        By it the user is told what the model does not know. None: they are no texts, or the recipe
        refuses what is not known.
        """
        return None

    @abstractmethod
    def answer(
        self,
        model: "keras.Model",
        facts: Mapping[str, Any],
        inputs: Sequence[Any],
        asking: Options,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        """The answer to each input.

        Args:
            model: as it was saved.
            facts: those of the data that the model was trained on, as JSON kept them.
            inputs: of `read` and `example`.
            asking: how to answer.
            places: where the files of each input go, without the suffixes, which are those that
                the recipe `makes`; None: none are made.
        """

    def example(self, data: Data, index: int) -> Any:
        """A test example as an input for `predict`."""
        return next(data.test.skip(index).as_numpy_iterator())[0]

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> Mapping[str, tuple["keras.Model", Sequence[Any] | bool]]:
        """What `export` writes: models by name, each with batches of inputs to check it on besides
        random ones, or True.

        The first is the one that `judge_exported` judges.
        """
        import keras

        batches = [x for x, _ in self.batches(data.test, config).take(4).as_numpy_iterator()]
        # One example alone, as short as it is: batch and time must be dynamic.
        alone = next(data.test.as_numpy_iterator())[0]
        batches.append(keras.tree.map_structure(lambda x: x[None], alone))
        return {"model": (self.core(model), batches)}

    def judge_exported(
        self, run: Runtime, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, Any]:
        """`judge` of an exported file: of the first of `exports`.

        Args:
            run: computes what the file does.
            model: what was exported, as it was saved.
            data: of `load`.
            config: of the run.
            folder: where pictures go.
        """
        return self.judge(as_keras(run, self.core(model)), data, config, folder)

    def vocabulary(self, model: "keras.Model", facts: Mapping[str, Any]) -> dict[str, Any]:
        """What the numbers of the exported files mean, by input and output, as JSON.

        See docs/export.md for the form. Nothing where they are measurements.
        """
        if "classes" in facts:
            (name,) = self.core(model).output_names
            return {name: {"classes": list(facts["classes"])}}
        return {}

    def compare(self, runs: Mapping[str, Sequence[Path]], place: Path) -> Mapping[str, str]:
        """Pictures of what the variants' runs did, side by side, for the card.

        Args:
            runs: folders of finished runs, by variant.
            place: where the pictures go.

        Returns:
            What each picture shows, by the name of its file.
        """
        return {}

    def tiny(self) -> Config:
        """A configuration that runs in seconds, for tests."""
        return dataclasses.replace(self.Config(), epochs=2)


def as_keras(run: Runtime, model: "keras.Model") -> "keras.Model":
    """A Keras model with a model's inputs and outputs that another runtime computes."""
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


def most_likely(probabilities: Sequence[float], names: Sequence[str], count: int = 3) -> str:
    """The most likely classes, in words."""
    ranked = sorted(zip(probabilities, names, strict=True), reverse=True)[:count]
    return ", ".join(f"{name}: {probability:.1%}" for probability, name in ranked)
