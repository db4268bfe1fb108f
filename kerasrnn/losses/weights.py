"""The weights of the tokens of a padded batch: from padding, the mask and sample weights."""

from typing import Any

import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.keras_internals import get_keras_mask, is_concrete

Tensor = Any


def as_ids(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Convert targets to ids `(batch, time)`, and check them against `(batch, time, ...)`."""
    # Not cast to the dtype of the predictions, as in Keras's metrics: bfloat16 cannot represent
    # every integer above 256.
    ids = validation.ids("y_true", y_true)
    if len(ids.shape) == 3 and ids.shape[-1] == 1:
        ids = ops.squeeze(ids, -1)
    if len(ids.shape) != 2 or not _fit(ids.shape, y_pred.shape[:2]):
        raise ValueError(
            f"y_true of the shape {tuple(ids.shape)}: expected ids (batch, time), for y_pred of "
            f"the shape {tuple(y_pred.shape)}."
        )
    return ids


def as_weights(sample_weight: Any, dtype: str) -> Tensor:
    """Convert the weights to a tensor.

    Raises:
        ValueError: a weight is NaN or infinite, if values are known.
    """
    weights = ops.cast(validation.tensor("sample_weight", sample_weight), dtype)
    values = validation.known(weights) if is_concrete(weights) else None
    if values is not None and not np.isfinite(values).all():
        raise ValueError(
            f"sample_weight: expected finite numbers; found {values[~np.isfinite(values)][0]}."
        )
    return weights


def weights_of_rows(sample_weight: Any, rows: int | None, dtype: str) -> Tensor:
    """The weights of rows that are one prediction each, `(batch,)`.

    Raises:
        ValueError: they have another shape, or are not finite.
    """
    weights = as_weights(sample_weight, dtype)
    shape = tuple(weights.shape)
    if not any(fits(shape, (rows, *rest)) for rest in ((), (1,))):
        raise ValueError(
            f"sample_weight of the shape {shape}: expected the weights of rows, (batch,) or "
            f"(batch, 1), with a batch of {rows}. A row is one prediction; to exclude steps, mask "
            "them."
        )
    return ops.reshape(weights, (-1,))


def of_targets(name: str, x: Tensor, predictions: Tensor) -> Tensor:
    """Broadcast what is given for rows, or for steps, to all targets, given predictions of the
    shape `(batch, ..., count)`.

    Raises:
        ValueError: it has another shape.
    """
    shape, expected = tuple(x.shape), tuple(predictions.shape[:-1])
    if len(x.shape) == len(expected) + 1 and x.shape[-1] == 1:
        x = ops.squeeze(x, -1)
    while 0 < len(x.shape) < len(expected):
        x = ops.expand_dims(x, -1)
    right = len(x.shape) == len(expected) and all(
        None in (size, wanted) or size == wanted or (axis > 0 and size == 1)
        for axis, (size, wanted) in enumerate(zip(x.shape, expected, strict=True))
    )
    if not right:
        raise ValueError(
            f"{name} of the shape {shape}: expected that of rows, (batch,) or (batch, 1), or the "
            f"first axes of the targets, {expected}."
        )
    # Not broadcast_to: on PyTorch, Keras multiplies weights by a mask in place.
    return ops.where(ops.ones_like(predictions[..., 0], dtype="bool"), x, ops.zeros_like(x))


def weigh(
    ids: Tensor,
    mask: Tensor | None,
    sample_weight: Tensor | None,
    ignore_class: int | None,
    dtype: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Compute the weight of every token and of every row.

    Padding and masked tokens have the weight 0. A row has the weight 0 if all its tokens do, and
    otherwise 1, multiplied by its own weight if weights of rows are given.

    Args:
        ids: the targets, `(batch, time)`.
        mask: boolean `(batch, time)`, True = use; or None.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`; or None.
        ignore_class: the id of padding; or None.
        dtype: of the weights.

    Returns:
        `(batch, time)`, including the weights of the rows, and `(batch,)`.

    Raises:
        ValueError: the mask or the weights have the wrong shape; a weight is not finite. In a
            graph the weight of its row becomes NaN instead.
    """
    tokens = ops.ones_like(ids, dtype=dtype)
    if ignore_class is not None:
        tokens = ops.where(ids != ignore_class, tokens, 0)
    if mask is not None:
        mask = ops.convert_to_tensor(mask)
        if len(mask.shape) != 2 or not _fit(mask.shape, ids.shape):
            raise ValueError(
                f"mask of the shape {tuple(mask.shape)}: expected that of the targets, "
                f"{tuple(ids.shape)}."
            )
        tokens = ops.where(ops.cast(mask, "bool"), tokens, 0)
    of_row = None
    if sample_weight is not None:
        weights = as_weights(sample_weight, dtype)
        shape = tuple(weights.shape)
        if len(weights.shape) == 1:
            weights = ops.expand_dims(weights, -1)
        if len(weights.shape) == 2 and weights.shape[1] == 1 and _fit(weights.shape, ids.shape[:1]):
            of_row = ops.squeeze(weights, -1)
        elif len(weights.shape) != 2 or not _fit(weights.shape, ids.shape):
            raise ValueError(
                f"sample_weight of the shape {shape}: expected the weights of "
                f"rows, (batch,) or (batch, 1), or of tokens, {tuple(ids.shape)}."
            )
        tokens = tokens * weights
    rows = ops.cast(ops.any(tokens != 0, axis=1), dtype)
    if of_row is not None:
        rows = rows * of_row
    elif sample_weight is not None:
        rows = ops.where(ops.all(ops.isfinite(weights), axis=1), rows, np.nan)
    return tokens, rows


def valid_first(valid: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Reorder the steps of each row: first the valid ones, then the others, both in their order.

    Args:
        valid: boolean `(batch, time)`.
        *tensors: `(batch, time)`.
    """
    steps = ops.arange(ops.shape(valid)[1], dtype="int32")
    order = ops.argsort(ops.where(valid, steps, steps + ops.shape(valid)[1]), axis=1)
    return [ops.take_along_axis(x, order, axis=1) for x in tensors]


def mask_of(y_pred: Tensor) -> Tensor | None:
    """The mask that Keras attached to predictions, if any."""
    return get_keras_mask(y_pred)


def _fit(shape: Any, other: Any) -> bool:
    return all(m is None or n is None or m == n for m, n in zip(shape, other, strict=False))
