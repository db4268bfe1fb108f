"""Inference in a linear chain: the forward algorithm, Viterbi's, their gradients and n-best lists.

The score of tags y_1 ... y_T, given scores x_tk of each tag at each step, is

    s(x, y) = b_{y_1} + sum_t x_{t, y_t} + sum_{t > 1} A_{y_{t-1}, y_t} + e_{y_T}

Both algorithms are one recursion over the steps,

    f_1k = b_k + x_1k,        f_tk = x_tk + (+)_j (f_{t-1, j} + A_jk),        Z = (+)_k (f_Tk + e_k)

where (+) is the logarithm of the sum of exponentials, and Z the logarithm of the sum over all y, or
(+) is the maximum, and Z the highest score (Sutton & McCallum 2012, "An introduction to conditional
random fields"). Masked steps are skipped: the tags on both sides are adjacent.

The gradient of log Z is a recursion backwards, with g_tk = d log Z / d f_tk:

    g_Tk = softmax_k(f_Tk + e_k),        P_tjk = softmax_j(f_{t-1, j} + A_jk)
    g_{t-1, j} = sum_k P_tjk g_tk,        d log Z / d A_jk = sum_t P_tjk g_tk

Every P is a probability: nothing overflows, and only the f_tk are stored. As f_tk has the gradient
of x_tk, the g are the marginal probabilities p(y_t = k | x).

Scores that grow with the length would lose digits. The largest f of each step is therefore
subtracted, and what is subtracted is added up separately: for the likelihood of given tags, after
what each step adds to their score, so that what is added up is small.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerasrnn.losses.weights import valid_first
from kerasrnn.recurrence import dynamic, log_semiring
from kerasrnn.recurrence.log_semiring import NEVER

Tensor = Any


class Chain(NamedTuple):
    """The scores of one batch, in float32 or float64."""

    scores: Tensor
    """x, `(batch, time, tags)`; 0 at masked steps."""

    start: Tensor
    """b, `(tags,)`"""

    transitions: Tensor
    """A, `(tags, tags)`: from, to."""

    end: Tensor
    """e, `(tags,)`"""

    mask: Tensor
    """Boolean, `(batch, time)`, True = use the step."""


def log_likelihood(chain: Chain, tags: Tensor) -> Tensor:
    """The logarithm of the probability of the tags, `(batch,)`.

        log p(y | x) = s(x, y) - log Z

    It is 0 for a row without valid steps.

    Args:
        chain: the scores.
        tags: y, int32 `(batch, time)`, each of them an existing tag.
    """
    return _traced(_log_likelihood, chain, tags)


def log_partition(chain: Chain) -> Tensor:
    """log Z, `(batch,)`; 0 for a row without valid steps."""
    return _traced(_log_partition, chain)


def marginals(chain: Chain) -> Tensor:
    """p(y_t = k | x), `(batch, time, tags)`; 0 at masked steps."""
    return _traced(_marginals, chain)


def best_paths(chain: Chain, n: int) -> tuple[Tensor, Tensor]:
    """The tags with the n highest scores, and these scores.

    Returns:
        int32 `(batch, n, time)`, and `(batch, n)`, from the highest to the lowest. Masked steps
        have the tag 0. Where fewer than n are allowed, the score is -inf and all tags are 0.
    """
    return _traced(_best_paths, chain, n=n)


def _traced(program: Any, chain: Chain, *arguments: Any, **static: int) -> Any:
    return dynamic.traced(program, chain, *arguments, key=chain.scores.shape[-1], **static)


def _log_likelihood(chain: Chain, tags: Tensor) -> Tensor:
    steps, end = _score_of_tags(chain, tags)
    possible = log_semiring.possible(ops.sum(steps, axis=1) + end)
    return ops.where(possible, _less_log_partition(chain, steps) + end, -np.inf)


def _log_partition(chain: Chain) -> Tensor:
    log_z = -_less_log_partition(chain, ops.zeros_like(chain.scores[:, :, 0]))
    return ops.where(log_semiring.possible(log_z), log_z, -np.inf)


def _less_log_partition(chain: Chain, added: Tensor) -> Tensor:
    """The sum of what is added at each step, `(batch, time)`, less log Z."""
    return dynamic.with_gradient(_forward, _backward, *_inputs(chain), ops.transpose(added))


def _marginals(chain: Chain) -> Tensor:
    inputs = _inputs(chain)
    _, residuals = _forward(*inputs, ops.zeros_like(inputs[0][:, :, 0]))
    d_scores, _ = _adjoint(residuals, ops.ones_like(chain.scores[:, 0, 0]))
    return ops.transpose(d_scores, (1, 0, 2))


def _inputs(chain: Chain) -> tuple[Tensor, ...]:
    """What the recursions read, with the time first; and where the first valid steps are."""
    keep = ops.expand_dims(ops.transpose(chain.mask), 2)
    first = keep & (ops.cumsum(ops.cast(keep, "int32"), axis=0) == 1)
    scores = ops.transpose(chain.scores, (1, 0, 2))
    return scores, chain.start, chain.transitions, chain.end, keep, first


# The score of given tags.


def _score_of_tags(chain: Chain, tags: Tensor) -> tuple[Tensor, Tensor]:
    """What each valid step adds to the score, `(batch, time)`, and what the end adds.

    The valid steps come first: then each is beside the one before it.
    """
    count = chain.scores.shape[-1]
    # A comparison rather than a lookup, as in the cross-entropy.
    is_tag = ops.expand_dims(tags, -1) == ops.arange(count, dtype="int32")
    own = ops.sum(ops.where(is_tag, chain.scores, 0), axis=-1)
    own, tags, valid = valid_first(chain.mask, own, tags, chain.mask)
    pairs = tags[:, :-1] * count + tags[:, 1:]
    links = [
        ops.take(chain.start, tags[:, :1]),
        ops.take(ops.reshape(chain.transitions, (-1,)), pairs),
    ]
    steps = ops.where(valid, own + ops.concatenate(links, axis=1), 0)
    length = ops.sum(ops.cast(valid, "int32"), axis=1, keepdims=True)
    last = ops.take_along_axis(tags, ops.maximum(length - 1, 0), axis=1)[:, 0]
    return steps, ops.where(length[:, 0] > 0, ops.take(chain.end, last), 0)


# The sum over all sequences of tags, and its gradient.


class _Residuals(NamedTuple):
    befores: Tensor
    """f before each step, without the scores subtracted, `(time, batch, tags)`."""

    last: Tensor
    """f after the last step."""

    transitions: Tensor
    end: Tensor
    keep: Tensor
    first: Tensor


def _forward(
    scores: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    keep: Tensor,
    first: Tensor,
    added: Tensor,
) -> tuple[Tensor, _Residuals]:
    def step(before: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        score, first = x
        links = log_semiring.total(ops.expand_dims(before, 2) + transitions, axis=1)  # from, to
        f = ops.where(first, start, links) + score
        highest = ops.stop_gradient(ops.max(f, axis=1, keepdims=True))
        return f - highest, (before, highest)

    last, (befores, highest) = log_semiring.scan(
        step, ops.zeros_like(scores[0]), (scores, first), keep
    )
    steps = ops.sum(added - ops.where(keep, highest, 0)[:, :, 0], axis=0)
    of_end = ops.where(_any(keep), log_semiring.total(last + end, axis=1), 0)
    residuals = _Residuals(befores, last, transitions, end, keep, first)
    return steps - of_end, residuals


def _backward(residuals: _Residuals, d: Tensor) -> tuple[Tensor | None, ...]:
    d_scores, d_transitions = _adjoint(residuals, -d, of_transitions=True)
    keep = residuals.keep
    d_start = ops.sum(ops.where(residuals.first, d_scores, 0), axis=(0, 1))
    d_end = ops.matmul(ops.where(_any(keep), -d, 0), _softmax(residuals.last + residuals.end))
    d_added = ops.broadcast_to(d, ops.shape(keep)[:2])
    return d_scores, d_start, d_transitions, d_end, None, None, d_added


def _adjoint(
    residuals: _Residuals, d: Tensor, of_transitions: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The gradients of the scores of all steps, and, if requested, of the transitions.

    Args:
        residuals: what the forward pass stored.
        d: the gradient of log Z, `(batch,)`.
        of_transitions: whether their gradient is requested.
    """
    transitions, keep = residuals.transitions, residuals.keep
    used = ops.expand_dims(ops.where(_any(keep), d, 0), 1)

    def step(carry: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> tuple[Any, Tensor]:
        (g, *totals), (before, keep, first) = carry, x
        own = ops.where(keep, g, 0)
        linked = ops.expand_dims(ops.where(first, 0, own), 1)  # not to the start
        paths = _softmax(ops.expand_dims(before, 2) + transitions) * linked
        totals = [total + ops.sum(paths, axis=0) for total in totals]
        return (ops.where(keep, ops.sum(paths, axis=2), g), *totals), own

    g = used * _softmax(residuals.last + residuals.end)
    carry = (g, ops.zeros_like(transitions)) if of_transitions else (g,)
    xs = (residuals.befores, keep, residuals.first)
    (_, *totals), d_scores = dynamic.scan(step, carry, xs, reverse=True)
    return d_scores, totals[0] if totals else None


def _any(keep: Tensor) -> Tensor:
    """Whether a row has a valid step, `(batch,)`."""
    return ops.any(keep, axis=(0, 2))


def _softmax(x: Tensor) -> Tensor:
    """The softmax over the second axis, which Keras's would transpose to the last."""
    x = ops.exp(x - ops.stop_gradient(ops.max(x, axis=1, keepdims=True)))
    return x / ops.sum(x, axis=1, keepdims=True)


# The sequences of tags with the highest scores.


def _best_paths(chain: Chain, n: int) -> tuple[Tensor, Tensor]:
    """States of the recursion are the tag and the rank among the paths to it: `tag * n + rank`."""
    scores, start, transitions, end, keep, first = _inputs(chain)
    count = scores.shape[-1]
    start = ops.pad(ops.expand_dims(start, 1), ((0, 0), (0, n - 1)), constant_values=NEVER)

    def step(before: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        score, first = x
        best, pointers = _best_links(before, transitions, n)
        f = ops.where(ops.expand_dims(first, 2), start, best) + ops.expand_dims(score, 2)
        highest = ops.max(f, axis=(1, 2), keepdims=True)
        return f - highest, (pointers, highest)

    begin = ops.repeat(ops.expand_dims(ops.zeros_like(scores[0]), 2), n, axis=2)
    last, (pointers, highest) = log_semiring.scan(step, begin, (scores, first), keep)
    values, states = _top(ops.reshape(last + ops.expand_dims(end, 1), (-1, count * n)), n)
    values = values + ops.sum(ops.where(keep, highest[:, :, 0], 0), axis=0)
    # An empty row has one sequence of tags, the empty one.
    of_empty = ops.convert_to_tensor([0.0] + [NEVER] * (n - 1), values.dtype)
    values = ops.where(ops.expand_dims(_any(keep), 1), values, of_empty)

    def trace(states: Tensor, pointers: Tensor) -> tuple[Tensor, Tensor]:
        is_state = ops.expand_dims(states, 2) == ops.arange(count * n, dtype="int32")
        before = ops.sum(ops.where(is_state, ops.expand_dims(pointers, 1), 0), axis=2)
        return before, states if n == 1 else states // n  # tf2onnx cannot convert a division by 1

    _, tags = log_semiring.scan(trace, states, pointers, keep, reverse=True)
    possible = log_semiring.possible(values)
    used = keep & possible
    tags = ops.transpose(ops.where(used, tags, 0), (1, 2, 0))
    return tags, ops.where(possible, values, -np.inf)


def _best_links(before: Tensor, transitions: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n best of the paths to each tag, `(batch, tags, n)`, and the states that they come from,
    `(batch, tags * n)`."""
    count = transitions.shape[0]
    if n == 1:
        best, pointers = _highest(before + transitions)  # from, to
        best = ops.expand_dims(best, 2)
    else:
        paths = ops.expand_dims(before, 1) + ops.expand_dims(ops.transpose(transitions), 2)
        best, pointers = ops.top_k(ops.reshape(paths, (-1, count, count * n)), n)
    return best, ops.cast(ops.reshape(pointers, (-1, count * n)), "int32")


def _top(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n largest of each row, and their places."""
    if n == 1:
        best, places = _highest(ops.expand_dims(x, 2))
    else:
        best, places = ops.top_k(x, n)
    return best, ops.cast(places, "int32")


def _highest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over the second axis, and its first place.

    Keras's argmax treats negative zeros by operations on bits, which ONNX lacks.
    """
    best = ops.max(x, axis=1, keepdims=True)
    count = x.shape[1]
    places = ops.reshape(ops.arange(count, dtype="int32"), (-1, 1))
    return best[:, 0], ops.min(ops.where(x == best, places, count - 1), axis=1)
