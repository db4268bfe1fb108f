"""Search spaces of models for your own data, for keras-tuner."""

from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.search_space import Choice, Numbers

if TYPE_CHECKING:
    import keras_tuner

TOPOLOGIES = ("many_to_one", "many_to_many")

RANGES = {
    "cell": space.choice("simple_rnn", "lstm", "gru"),
    "units": space.powers(32, 256),
    "depth": space.integers(1, 3),
    "bidirectional": space.switch(),
    "pooling": space.choice("last", "mean", "max"),
    "dropout": space.floats(0.0, 0.6),
    "recurrent_dropout": 0.0,
    "residual": False,
    "learning_rate": space.floats(3e-4, 1e-2, log=True),
    **space.CLIPPING,
}
"""The default search space and fixed values of `hypermodel`."""

OF_ONE = ("pooling",)
"""Hyperparameters of many-to-one only."""

OF_TRAINING = ("learning_rate", "clipping", "clip_at")


def hypermodel(
    inputs: Any,
    outputs: Any,
    topology: str = "many_to_one",
    loss: Any = None,
    metrics: Any = None,
    **ranges: Any,
) -> "keras_tuner.HyperModel":
    """A `keras_tuner.HyperModel` of recurrent networks, for any keras-tuner tuner.

    The models are those of `kerasrnn.zoo`, compiled with Adam (Kingma & Ba 2015). In a stack, all
    layers but the last return their states at all steps; the last one does so if each step has an
    output, or if the states are pooled.

    Args:
        inputs: `zoo.Vectors`, `Tokens`, or `Images` for a video; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, `MultiLabel` or `Values`, or another `zoo.Output`.
        topology: "many_to_one", or "many_to_many" for an output at every step.
        loss: see `keras.Model.compile`; default: that of the outputs.
        metrics: see `keras.Model.compile`; default: those of the outputs.
        **ranges: search ranges from `kerasrnn.recipes.base.search_space`, or fixed values: `cell`,
            `units`, `depth`, `bidirectional`, `pooling` (only for many-to-one), `dropout`,
            `recurrent_dropout` (default: fixed at 0), `residual` (default: fixed at no),
            `learning_rate`, `clipping` ("global_norm", "norm", "value" or "none") and `clip_at`.

    Raises:
        ValueError: an argument is invalid.
        ModuleNotFoundError: keras-tuner is not installed.

    Example:

        >>> import keras_tuner
        >>> from kerasrnn import zoo
        >>> from kerasrnn.recipes.base import search_space as space
        >>> from kerasrnn.recipes.tuning.hypermodels import hypermodel
        >>> speakers = hypermodel(
        ...     zoo.Vectors(12), zoo.Classes(9), cell="gru", units=space.powers(8, 32), depth=2)
        >>> model = speakers.build(keras_tuner.HyperParameters())
        >>> model.output_shape
        (None, 9)
        >>> [layer.return_sequences for layer in model.get_layer("recurrent").layers]
        [True, False]
    """
    try:
        import keras_tuner
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a HyperModel needs keras-tuner; install it with `pip install 'kerasrnn[recipes]'`"
        ) from error
    if topology not in TOPOLOGIES:
        raise ValueError(f"topology={topology!r}: expected one of {', '.join(TOPOLOGIES)}.")
    possible = {
        name: value
        for name, value in RANGES.items()
        if topology == "many_to_one" or name not in OF_ONE
    }
    for name in ranges:
        if name not in possible:
            raise ValueError(f"{name}: expected names among {', '.join(possible)}.")
    return _class(keras_tuner)(inputs, outputs, topology, loss, metrics, {**possible, **ranges})


def _class(keras_tuner: Any) -> Any:
    """Create the class, which needs keras-tuner."""

    class HyperModel(keras_tuner.HyperModel):
        """Recurrent networks of a topology of the zoo."""

        def __init__(
            self,
            inputs: Any,
            outputs: Any,
            topology: str,
            loss: Any,
            metrics: Any,
            ranges: dict[str, Any],
        ) -> None:
            super().__init__(name=topology)
            self.inputs, self.outputs, self.topology = inputs, outputs, topology
            self.loss, self.metrics = loss, metrics
            searched = {n: v for n, v in ranges.items() if isinstance(v, (Choice, Numbers))}
            self.fixed = {n: v for n, v in ranges.items() if n not in searched}
            self.space = space.narrowed(searched, self.fixed, {"clip_at": 1.0, **self.fixed})

        def build(self, hp: Any) -> Any:
            """A compiled model with the values of `hp`."""
            import keras

            from kerasrnn import zoo

            values = {"clip_at": 1.0, **self.fixed, **space.declare(hp, self.space, {})}
            rate, clipping, clip_at = (values.pop(name) for name in OF_TRAINING)
            model = getattr(zoo, self.topology)(self.inputs, self.outputs, **values)
            names = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
            clip = {} if clipping == "none" else {names[clipping]: clip_at}
            metrics = self.metrics
            if metrics is None:
                metrics = self.outputs.metrics(model.head)
            model.compile(keras.optimizers.Adam(rate, **clip), self.loss, metrics=list(metrics))
            return model

    return HyperModel
