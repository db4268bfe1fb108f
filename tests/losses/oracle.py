"""The cross-entropy of sequences, token by token, from its equations."""

import numpy as np


def token_loss(target, p, smoothing=0.0, padding=None):
    """- sum_k q'(k) log p(k)."""
    loss, classes = 0.0, len(p)
    share = classes - (padding is not None and 0 <= padding < classes)
    for k in range(classes):
        q = (1 - smoothing) * (k == target) + (smoothing / share if k != padding else 0.0)
        if q:
            loss -= q * np.log(p[k])
    return loss


def counted(y, padding, mask=None, weights=None):
    """For each row with tokens that count: its weight, and their weights and places."""
    for b, ids in enumerate(y):
        of_row, of_tokens = 1.0, np.ones(len(ids))
        if weights is not None and np.size(weights) == len(y):
            of_row = float(np.reshape(weights, -1)[b])
        elif weights is not None:
            of_tokens = weights[b]
        places = [
            (of_row * of_tokens[t], t)
            for t in range(len(ids))
            if ids[t] != padding and (mask is None or mask[b, t]) and of_row * of_tokens[t]
        ]
        if places:
            yield b, of_row, places


def loss(y, p, smoothing=0.0, average="token", padding=0, mask=None, weights=None):
    total = divisor = 0.0
    for b, of_row, places in counted(y, padding, mask, weights):
        total += sum(w * token_loss(y[b, t], p[b, t], smoothing, padding) for w, t in places)
        divisor += sum(w for w, _ in places) if average == "token" else of_row
    return total / divisor if divisor else 0.0
