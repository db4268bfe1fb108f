"""Transducers by their definition: all paths, one by one; and the recursion, node by node."""

import itertools

import numpy as np


def paths(frames, labels, per_frame=None):
    """The frames at which the labels are written, for every path; at most so many at a frame."""
    for times in itertools.combinations_with_replacement(range(frames), labels):
        if per_frame is None or all(times.count(t) <= per_frame for t in times):
            yield times


def of_path(times, blank, label):
    """The log-probability of a path.

    Args:
        times: the frame of each label.
        blank: log-probabilities at each node, `(time, labels + 1)`.
        label: those of the next label.
    """
    written = sum(label[t, u] for u, t in enumerate(times))
    passed = sum(blank[t, sum(s <= t for s in times)] for t in range(len(blank)))
    return written + passed


def log_likelihood(blank, label, labels):
    """The sum over all paths that write so many labels."""
    if not len(blank):
        return 0.0 if labels == 0 else -np.inf
    totals = [of_path(times, blank, label) for times in paths(len(blank), labels)]
    return float(np.logaddexp.reduce(totals))


def recursion(blank, label, labels):
    """The same by the forward variables, for sizes that cannot be enumerated."""
    frames = len(blank)
    alpha = np.full((frames + 1, labels + 1), -np.inf)
    alpha[0, 0] = 0
    for t in range(frames + 1):
        for u in range(labels + 1):
            if t > 0:
                alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t - 1, u] + blank[t - 1, u])
            if u > 0 and t < frames:
                alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t, u - 1] + label[t, u - 1])
    return alpha[frames, labels]
