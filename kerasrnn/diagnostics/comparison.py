"""The gradients of several models in one plot."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasrnn import validation
from kerasrnn.diagnostics import pictures
from kerasrnn.diagnostics.diagnosis import Diagnosis
from kerasrnn.validation import PositiveNumber

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@validation.checked
def compare(
    diagnoses: Mapping[str, Diagnosis],
    *,
    layer: str | None = None,
    state: str | None = None,
    clipnorm: PositiveNumber | None = None,
) -> "Figure":
    """Plot the gradients of several models against the distance to the loss, one curve per model.

    Args:
        diagnoses: by the labels of the curves; measured with `steps="last"`.
        layer: the name of a recurrent layer in `Diagnosis.layers`. Default: the only one.
        state: h or c. Default: the state of each layer with the longest memory, named in the label
            if it is not h.
        clipnorm: if given, a second panel shows the global norm of the gradient of each model's
            weights, before and after clipping to this norm: Pascanu, Mikolov & Bengio (2013),
            "On the difficulty of training recurrent neural networks", algorithm 1.

    Returns:
        A `matplotlib.figure.Figure`; `savefig(path)` writes it.

    Raises:
        ImportError: matplotlib is not installed; it comes with the extra `recipes`.
        ValueError: no diagnoses, or one by step; an unknown layer or state; several layers without
            `layer`; `clipnorm` is not positive.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> x, diagnoses = np.ones((2, 20, 3), "float32"), {}
        >>> for cell in (kerasrnn.SimpleRNN, kerasrnn.GRU):
        ...     model = keras.Sequential([keras.Input((None, 3)), cell(8)])
        ...     diagnoses[cell.__name__] = kerasrnn.diagnostics.diagnose(
        ...         model, x, loss=keras.ops.sum)
        >>> figure = kerasrnn.diagnostics.compare(diagnoses, clipnorm=1.0)
        >>> len(figure.axes[0].lines)
        2
    """
    if (
        not isinstance(diagnoses, Mapping)
        or not diagnoses
        or not all(isinstance(diagnosis, Diagnosis) for diagnosis in diagnoses.values())
    ):
        raise ValueError(f"diagnoses={diagnoses!r}: expected a dictionary of diagnoses by label.")
    curves = {}
    for label, diagnosis in diagnoses.items():
        if diagnosis.axis != "distance":
            raise ValueError(f'{label}: measured by step; expected diagnose(steps="last").')
        one = _chosen(f"{label}: layer", layer, diagnosis.layers)
        if state is None:
            of = max(one.states.values(), key=lambda s: np.nan_to_num(s.memory, nan=-1))
        else:
            of = _chosen(f"{label}: state", state, one.states)
        name = label if of.name == "h" else f"{label} (dL/d{of.name})"
        curves[label] = (name, of.gradient_norms)
    norms = {label: diagnosis.weight_gradient_norm for label, diagnosis in diagnoses.items()}
    return pictures.comparison([*curves.values()], norms, clipnorm)


def _chosen(what: str, name: str | None, named: Mapping[str, Any]) -> Any:
    if name is None and len(named) == 1:
        return next(iter(named.values()))
    if name not in named:
        raise ValueError(f"{what}={name!r}: expected one of {', '.join(named)}.")
    return named[name]
