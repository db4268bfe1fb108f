"""Models that read texts."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.zoo import reading

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class TextModel(keras.Model):
    """A functional model with one input, of texts, which takes them as Python has them.

    `zoo.load` returns one where a model reads texts. A call and `predict` take a list, a tuple, an
    array, a pandas Series or any other iterable of strings, as many as there are to answer;
    `predict` takes a `tf.data.Dataset` too.

    Args:
        inputs: of `keras.Model`: strings, `(batch,)`.
        outputs: of `keras.Model`.
        name: of the model.

    Raises:
        ValueError: an argument is not a collection of texts, or is empty; the message names the
            entry that is no text.

    Example:

        >>> from kerasrnn import zoo
        >>> judge = zoo.load("movie_sentiment")
        >>> judge.predict(["Dull, dull, dull."], verbose=0).argmax(axis=-1).tolist()
        [0]
    """

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        return super().__call__(to_call(inputs), *args, **kwargs)

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        x, batch_size = to_predict(x, batch_size)
        return super().predict(x, batch_size=batch_size, **kwargs)


# Functions, and not a base of both models: Keras changes the bases of functional ones.


def to_call(inputs: Any) -> Tensor:
    """What a model of texts is called with, as a tensor.

    Raises:
        ValueError: it is no collection of texts, or empty.
    """
    if isinstance(inputs, keras.KerasTensor) or ops.is_tensor(inputs):
        return inputs
    return ops.convert_to_tensor(reading.as_texts("inputs", inputs))


def to_predict(x: Any, batch_size: int | None) -> tuple[Any, int | None]:
    """The arguments of `predict` of a model of texts; a `tf.data.Dataset` stays one.

    Raises:
        ValueError: `x` is no collection of texts, or empty; `batch_size` is not positive.
    """
    if batch_size is not None:
        validation.positive_integer("batch_size", batch_size)
    if not hasattr(x, "element_spec"):  # as a tf.data.Dataset has
        x = ops.convert_to_tensor(reading.as_texts("x", x))
    return x, batch_size


def of_texts(model: keras.Model) -> keras.Model:
    """A `TextModel` of a functional model that reads texts alone; any other model as it is."""
    inputs = getattr(model, "inputs", None) or []
    # A subclass may have a call of its own.
    functional = type(model) is type(keras.Model(*2 * [keras.Input(())]))
    if not functional or [(x.dtype, x.shape) for x in inputs] != [("string", (None,))]:
        return model
    return TextModel(model.inputs[0], model.outputs, name=model.name)
