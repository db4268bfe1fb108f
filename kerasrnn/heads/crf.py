"""Linear-chain conditional random field: Lafferty, McCallum & Pereira (2001).

"Conditional random fields: probabilistic models for segmenting and labeling sequence data", ICML.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask, check_steps, fits
from kerasrnn.heads import linear_chain
from kerasrnn.heads.linear_chain import Chain
from kerasrnn.keras_internals import get_keras_mask, is_concrete
from kerasrnn.losses.structured import attach
from kerasrnn.metrics.tag_schemes import SCHEMES, SchemeName, Tags
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import ArgumentError, PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class CRF(SequenceLayer):
    """A linear-chain conditional random field: the probability of all tags of a sequence together.

        s(x, y) = b_{y_1} + sum_t x_{t, y_t} + sum_{t > 1} A_{y_{t-1}, y_t} + e_{y_T}
        p(y | x) = exp(s(x, y)) / sum_{y'} exp(s(x, y'))

    for the scores x of each tag at each step, usually the outputs of a `keras.layers.Dense`
    without activation. Which tag follows which is learned: A scores pairs of adjacent tags, b the
    first tag and e the last. Sequences that are not allowed, by a scheme or otherwise, have the
    probability 0, in training and in decoding; the sum is over all others.

    The outputs are the marginal probabilities of the tags of each step,

        y_tk = p(y_t = k | x)

    like those of a softmax, so that `predict`, Keras's accuracy and thresholds mean what they do
    without this layer. The most probable tags of each step need not be the most probable sequence,
    nor be allowed: `decode` returns the most probable sequence, in a functional model, too. Train
    with `kerasrnn.losses.CRFLoss`, which needs the distribution behind the output: this layer
    attaches it.

    All computations are in float32, under mixed precision, too, and in float64 for float64 scores.
    With weights of zero, their initial value, and all sequences allowed, the output is the softmax
    of the scores, and the loss the sum of the cross-entropies. Weights: `start` b `(tags,)`,
    `transitions` A `(tags, tags)`, from and to, `end` e `(tags,)`.

    Args:
        tags: the number of tags, or their names.
        scheme: "BIO", "IOB1", "BIOES", "BILOU" or "BMES": allow only what this scheme can mark:
            in BIO, no I-PER after O. It needs names, such as "O", "B-PER", "I-PER", or "B", "I".
            None: allow every sequence.
        forbidden: pairs of tags, by name or number, of which the second must not follow the first.
            `(None, tag)`: it must not be the first one; `(tag, None)`: it must not be the last one.
        initializer: initializer of the transitions. The other weights start at zero.
        regularizer: regularizer of the transitions.

    Call arguments:
        scores: x, `(batch, time, tags)`.
        mask: boolean `(batch, time)`, True = use the step. Default: the mask attached to the
            scores, if any.

    Returns:
        The marginal probabilities, `(batch, time, tags)`; 0 at masked steps.

    Masking: masked steps are skipped, wherever they are: the tags on both sides are adjacent. The
    log-likelihood of a fully masked row is 0. The mask is passed on.

    Raises:
        ValueError: `tags` are fewer than one, or not unique; a tag is not one of the scheme, or a
            scheme is given without names; a forbidden pair has an unknown tag; no sequence of some
            length is allowed; the scores have another size, or no steps.

    Example:

        >>> import keras, kerasrnn
        >>> tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        >>> crf = kerasrnn.CRF(tags, scheme="BIO")
        >>> words = keras.Input((None,), dtype="int32")
        >>> x = keras.layers.Embedding(1000, 16, mask_zero=True)(words)
        >>> x = kerasrnn.Bidirectional(kerasrnn.LSTM(16, return_sequences=True))(x)
        >>> scores = keras.layers.Dense(len(tags))(x)
        >>> model = keras.Model(words, crf(scores))                # to train
        >>> model.compile("adam", kerasrnn.losses.CRFLoss(), metrics=["accuracy"])
        >>> tagger = keras.Model(words, crf.decode(scores)[0])     # the same weights
        >>> tuple(tagger(keras.ops.array([[4, 7, 2]])).shape)
        (1, 3)
    """

    def __init__(
        self,
        tags: int | Sequence[str],
        scheme: SchemeName | None = None,
        forbidden: Iterable[tuple[Any, Any]] = (),
        initializer: Any = "zeros",
        regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        # The scores and sums of a row need more digits than half precision has.
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        super().__init__(dtype=policy.variable_dtype, autocast=False, **kwargs)
        self.tags, self.scheme = _checked_tags(tags, scheme)
        self.count = self.tags if isinstance(self.tags, int) else len(self.tags)
        if not isinstance(forbidden, Iterable) or isinstance(forbidden, (Mapping, str)):
            raise ArgumentError("forbidden", forbidden, "a list of pairs of tags")
        self.forbidden = [self._pair(n, pair) for n, pair in enumerate(forbidden)]
        self.initializer = validation.initializer("initializer", initializer)
        self.regularizer = validation.regularizer("regularizer", regularizer)
        self._allowed = _Allowed.of(self.count, self.tags, self.scheme, self.forbidden)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def _pair(self, n: int, pair: Any) -> tuple[int | None, int | None]:
        """The numbers of a forbidden pair of tags."""
        name = f"forbidden[{n}]"
        expected = "a pair of tags, (before, after); None is the start or the end"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or all(x is None for x in pair):
            raise ArgumentError(name, pair, expected)
        ids = []
        for tag in pair:
            if isinstance(tag, str):
                if isinstance(self.tags, int) or tag not in self.tags:
                    raise ArgumentError(name, pair, f"{expected}; {tag!r} is not one of the tags")
                ids.append(self.tags.index(tag))
            else:
                ids.append(
                    None if tag is None else validation.integer(name, tag, 0, self.count - 1)
                )
        return tuple(ids)

    def build(self, scores_shape: Any) -> None:
        if scores_shape[-1] != self.count:
            raise ValueError(
                f"{self.name}: scores of the shape {tuple(scores_shape)}; expected (batch, time, "
                f"{self.count}), a score for each tag: the outputs of "
                f"keras.layers.Dense({self.count})."
            )
        self.start = self.add_weight((self.count,), "zeros", name="start")
        self.transitions = self.add_weight(
            (self.count, self.count),
            self.initializer,
            regularizer=self.regularizer,
            name="transitions",
        )
        self.end = self.add_weight((self.count,), "zeros", name="end")
        self.built = True

    def call(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        chain = self._chain(scores, mask)
        y = linear_chain.marginals(chain)
        attach(y, Distribution(chain))
        return y

    def compute_output_spec(self, scores: Any, mask: Any = None) -> keras.KerasTensor:
        # The weights' dtype, and no loop to trace.
        return keras.KerasTensor(scores.shape, self.compute_dtype)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask

    def log_likelihood(self, scores: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logarithm of the probability of the tags of each row, log p(y | x).

        Args:
            scores: `(batch, time, tags)`.
            tags: their numbers, `(batch, time)`; any at masked steps.
            mask: see `call`.

        Returns:
            `(batch,)`, in nats; -inf for tags that are not allowed, 0 for a fully masked row.

        Raises:
            ValueError: the shapes do not match, or a number is not that of a tag; where values are
                unknown, as in a graph, the result is then NaN.
        """
        return likelihood_of(self._chain(scores, mask), tags)

    def log_partition(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """log sum_y exp(s(x, y)), `(batch,)`, the sum over all allowed sequences."""
        return linear_chain.log_partition(self._chain(scores, mask))

    def marginals(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """The marginal probabilities p(y_t = k | x), `(batch, time, tags)`: the layer's output."""
        return linear_chain.marginals(self._chain(scores, mask))

    def decode(
        self, scores: Tensor, mask: Tensor | None = None, n: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The allowed tags with the highest score (Viterbi 1967), or the n best.

        Args:
            scores: `(batch, time, tags)`, a tensor, or one of a functional model.
            mask: see `call`.
            n: how many sequences; None: one, without an axis for their number.

        Returns:
            The tags, int32 `(batch, time)`, 0 at masked steps, and their score s(x, y), `(batch,)`.
            With `n`, `(batch, n, time)` and `(batch, n)`, from the highest score to the lowest;
            where fewer than n sequences are allowed, a score of -inf and tags of 0.

        Raises:
            ValueError: the shapes do not match, or `n` is not a positive integer.

        Example:

            >>> import numpy as np, kerasrnn
            >>> crf = kerasrnn.CRF(2, forbidden=[(1, 1)])
            >>> scores = np.array([[[0.0, 2.0], [0.0, 1.0]]], "float32")
            >>> tags, score = crf.decode(scores, n=2)
            >>> np.asarray(tags).tolist(), np.asarray(score).tolist()
            ([[[1, 0], [0, 1]]], [[2.0, 1.0]])
        """
        if n is not None:
            n = validation.positive_integer("n", n)
        if isinstance(scores, keras.KerasTensor):
            return CRFDecoder(self, n)(scores, mask=mask)
        tags, score = linear_chain.best_paths(self._chain(scores, mask), n or 1)
        return (tags, score) if n is not None else (tags[:, 0], score[:, 0])

    def _chain(self, scores: Tensor, mask: Tensor | None) -> Chain:
        """The scores of a batch and of this layer."""
        scores = validation.tensor(f"{self.name}: scores", scores)
        if not fits(scores.shape, (None, None, self.count)):
            raise ValueError(
                f"{self.name}: scores of the shape {tuple(scores.shape)}; expected (batch, time, "
                f"{self.count}), a score for each tag."
            )
        check_steps(f"{self.name}: scores", scores)
        if not self.built:
            self.build(scores.shape)
        mask = get_keras_mask(scores) if mask is None else mask
        double = keras.backend.standardize_dtype(scores.dtype) == "float64"
        dtype = "float64" if double else "float32"
        scores = ops.cast(scores, dtype)
        if mask is None:
            mask = ops.ones_like(scores[:, :, 0], dtype="bool")
        else:
            mask = boolean_mask(f"{self.name}: mask", mask, scores.shape[:2])
        # Neither NaN at a masked step nor -inf anywhere has an influence on gradients.
        scores = ops.where(ops.expand_dims(mask, 2), scores, 0)
        weights = [
            ops.where(allowed, ops.cast(ops.convert_to_tensor(weight), dtype), NEVER)
            for weight, allowed in zip(
                (self.start, self.transitions, self.end), self._allowed, strict=True
            )
        ]
        return Chain(ops.maximum(scores, NEVER), *weights, mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "tags": self.tags,
            "scheme": self.scheme,
            "forbidden": self.forbidden,
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }


@keras.saving.register_keras_serializable(package="kerasrnn")
class CRFDecoder(SequenceLayer):
    """The most probable tags of a `CRF`: the layer that `CRF.decode` applies in a functional model.

    Args:
        crf: the layer, whose weights this one shares.
        n: see `CRF.decode`.
    """

    def __init__(self, crf: CRF, n: PositiveInteger | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.crf = crf
        self.n = n
        self.supports_masking = True

    def build(self, scores_shape: Any) -> None:
        if not self.crf.built:
            self.crf.build(scores_shape)
        self.built = True

    def call(self, scores: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.crf.decode(scores, mask, self.n)

    def compute_output_spec(self, scores: Any, mask: Any = None) -> tuple[Any, Any]:
        batch, time, _ = scores.shape
        several = () if self.n is None else (self.n,)
        return (
            keras.KerasTensor((batch, *several, time), "int32"),
            keras.KerasTensor((batch, *several), self.crf.compute_dtype),
        )

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> tuple[Any, None]:
        """The mask of the tags, unless there are several for each step."""
        return (mask if self.n is None else None), None

    def get_config(self) -> dict[str, Any]:
        crf = keras.saving.serialize_keras_object(self.crf)
        return {**super().get_config(), "crf": crf, "n": self.n}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "CRFDecoder":
        crf = keras.saving.deserialize_keras_object(config["crf"], custom_objects)
        return cls(**{**config, "crf": crf})


class Distribution(NamedTuple):
    """The distribution behind a layer's output: see `kerasrnn.losses.structured.Structure`."""

    chain: Chain

    @property
    def mask(self) -> Tensor:
        return self.chain.mask

    def log_likelihood(self, targets: Tensor) -> Tensor:
        return likelihood_of(self.chain, targets)

    def most_probable(self) -> Tensor:
        return linear_chain.best_paths(self.chain, 1)[0][:, 0]


def likelihood_of(chain: Chain, tags: Tensor) -> Tensor:
    """The log-likelihood of tags whose values may be unknown: see `CRF.log_likelihood`."""
    tags = validation.ids("tags", tags)
    if not fits(tags.shape, chain.mask.shape):
        raise ValueError(
            f"tags of the shape {tuple(tags.shape)}: expected (batch, time), for scores of the "
            f"shape {tuple(chain.scores.shape)}."
        )
    count = chain.scores.shape[-1]
    known = (tags >= 0) & (tags < count)
    wrong = chain.mask & ~known
    if is_concrete(wrong) and ops.convert_to_numpy(wrong).any():
        number = ops.convert_to_numpy(tags)[ops.convert_to_numpy(wrong)][0]
        raise ValueError(f"tags: expected numbers from 0 to {count - 1}; found {number}.")
    values = linear_chain.log_likelihood(chain, ops.where(known & chain.mask, tags, 0))
    return ops.where(ops.any(wrong, axis=1), np.nan, values)


class _Allowed(NamedTuple):
    """Which tags may be the first, `(tags,)`, which may follow which, `(tags, tags)`, and which may
    be the last, `(tags,)`."""

    start: np.ndarray
    transitions: np.ndarray
    end: np.ndarray

    @classmethod
    def of(
        cls,
        count: int,
        tags: int | list[str],
        scheme: SchemeName | None,
        forbidden: list[tuple[int | None, int | None]],
    ) -> "_Allowed":
        if scheme is None:
            allowed = cls(np.ones(count, bool), np.ones((count, count), bool), np.ones(count, bool))
        else:
            allowed = cls(*Tags(tags, scheme).allowed())
        for before, after in forbidden:
            if before is None:
                allowed.start[after] = False
            elif after is None:
                allowed.end[before] = False
            else:
                allowed.transitions[before, after] = False
        allowed.check()
        return allowed

    def check(self) -> None:
        """Raise ValueError unless there is an allowed sequence of each length."""
        reached, seen, length = self.start, set(), 1
        while reached.tobytes() not in seen:
            seen.add(reached.tobytes())
            if not (reached & self.end).any():
                raise ValueError(
                    f"scheme, forbidden: no sequence of {length} tags is allowed; expected one of "
                    "each length."
                )
            reached, length = (reached[:, None] & self.transitions).any(axis=0), length + 1


def _checked_tags(tags: Any, scheme: Any) -> tuple[int | list[str], SchemeName | None]:
    """The number or the names of the tags, and the scheme."""
    if isinstance(tags, (str, bytes)):
        raise ArgumentError("tags", tags, "their number", "a list of their names")
    if isinstance(tags, Iterable):
        tags = [validation.string(f"tags[{n}]", name) for n, name in enumerate(tags)]
        twice = [name for name in tags if tags.count(name) > 1]
        if twice or not tags:
            problem = f"{twice[0]!r} occurs more than once" if twice else "there is none"
            raise ArgumentError("tags", tags, f"names that differ; {problem}")
    else:
        tags = validation.positive_integer("tags", tags)
    if scheme is not None:
        scheme = validation.one_of("scheme", scheme, SCHEMES)
        if isinstance(tags, int):
            raise ArgumentError("tags", tags, f"a list of names, for scheme={scheme!r}")
    return tags, scheme
