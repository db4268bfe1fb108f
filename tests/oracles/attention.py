"""Attention (Bahdanau et al. 2015; Luong et al. 2015; Chorowski et al. 2015; Raffel et al. 2017).

Position by position, row by row, from the papers' equations. A query s is one vector, keys h are
`(positions, width)`, `used` marks the positions that are not padding. Every score function returns
a score for each position; `softmax`, `local_p` and `monotonic_*` compute weights from the scores.
"""

import math

import numpy as np

from tests.oracles.activations import sigmoid


def bahdanau(s, keys, weights):
    """e_j = v^T tanh(W s + U h_j + b), Bahdanau 2015, A.1.2; with g, v is g v / |v|."""
    return additive(s, keys, weights, [0.0] * len(keys))


def additive(s, keys, weights, features):
    """e_j = v^T tanh(W s + U h_j + f_j + b), with further features f_j of each position."""
    v = weights["attention_v"]
    if "attention_g" in weights:  # Salimans & Kingma 2016; Raffel 2017, equation 16
        v = weights["attention_g"] * v / math.sqrt(sum(x * x for x in v))
    inner = s @ weights["query_kernel"] + weights.get("attention_bias", 0.0)
    return np.array(
        [
            v @ np.tanh(inner + h @ weights["key_kernel"] + f)
            for h, f in zip(keys, features, strict=True)
        ]
    )


def luong_dot(s, keys, weights):
    """e_j = s^T h_j, Luong 2015, equation 8."""
    return np.array([s @ h for h in keys])


def luong_scaled_dot(s, keys, weights):
    """e_j = s^T h_j / sqrt(d), Vaswani 2017, equation 1."""
    return luong_dot(s, keys, weights) / math.sqrt(keys.shape[1])


def luong_general(s, keys, weights):
    """e_j = s^T W h_j."""
    return np.array([s @ (h @ weights["key_kernel"]) for h in keys])


def luong_concat(s, keys, weights):
    """e_j = v^T tanh(W [s; h_j])."""
    kernel = np.concatenate([weights["query_kernel"], weights["key_kernel"]])
    return np.array(
        [weights["attention_v"] @ np.tanh(np.concatenate([s, h]) @ kernel) for h in keys]
    )


def location_sensitive(s, keys, before, weights):
    """f_j = F * alpha_{i-1} U: Chorowski 2015, 8 and 9.

    The convolution is centred, with zeros around: sum_k F_k alpha_{j + k - (K - 1) / 2}.
    """
    filters = weights["location_filters"]  # (K, 1, filters)
    reach = (len(filters) - 1) // 2
    features = []
    for j in range(len(keys)):
        f = np.zeros(filters.shape[2])
        for k in range(len(filters)):
            at = j + k - reach
            if 0 <= at < len(keys):
                f = f + filters[k, 0] * before[at]
        features.append(f @ weights["location_kernel"])
    return additive(s, keys, weights, features)


def coverage(s, keys, covered, weights):
    """f_j = c_j w_c, See, Liu & Manning 2017, equation 11."""
    return additive(s, keys, weights, [c * weights["coverage_kernel"] for c in covered])


def softmax(scores, used):
    """alpha_j over the used positions; zeros if there are none."""
    alpha = np.zeros(len(scores))
    there = np.flatnonzero(used)
    if len(there):
        exps = [math.exp(scores[j] - max(scores[there])) for j in there]
        for j, e in zip(there, exps, strict=True):
            alpha[j] = e / sum(exps)
    return alpha


def entmax(scores, used, alpha):
    """Peters et al. 2019, equation 13: max((alpha - 1) e_j - tau, 0)^(1 / (alpha - 1)) over the
    used positions, with tau by bisection. An alpha of 2 is sparsemax."""
    p, there = np.zeros(len(scores)), np.flatnonzero(used)
    if len(there):
        e = (alpha - 1) * np.asarray(scores, "float64")[there]
        low, high = e.max() - 1, e.max()
        for _ in range(200):
            tau = (low + high) / 2
            p[there] = np.maximum(e - tau, 0) ** (1 / (alpha - 1))
            low, high = (tau, high) if p.sum() > 1 else (low, tau)
    return p


NORMALIZATIONS = {
    "softmax": softmax,
    "sparsemax": lambda scores, used: entmax(scores, used, 2.0),
    "entmax": lambda scores, used: entmax(scores, used, 1.5),
}


def local_p(s, scores, used, window, weights, normalization="softmax"):
    """Luong 2015, equations 9 and 10: a softmax in the window around p, times a Gaussian."""
    length, position = int(sum(used)), np.cumsum(used) - 1
    p = length * sigmoid(weights["position_v"] @ np.tanh(s @ weights["position_kernel"]))
    near = np.array([bool(u) and abs(j - p) <= window for j, u in zip(position, used, strict=True)])
    alpha = NORMALIZATIONS[normalization](scores, near)
    return np.array(
        [
            a * math.exp(-((j - p) ** 2) / (2 * (window / 2) ** 2))
            for j, a in zip(position, alpha, strict=True)
        ]
    )


def monotonic_soft(p, before):
    """The expected alignment, Raffel 2017, equations 8 and 9, by their recursion over j.

    q_j = (1 - p_{j-1}) q_{j-1} + alpha_{i-1,j};  alpha_{i,j} = p_j q_j.
    """
    alpha, q = np.zeros(len(p)), 0.0
    for j in range(len(p)):
        q = (1 - p[j - 1] if j else 0.0) * q + before[j]
        alpha[j] = p[j] * q
    return alpha


def monotonic_hard(p, before):
    """The first position, from the previous one on, whose p is above a half, if any."""
    alpha = np.zeros(len(p))
    if not before.any():
        return alpha
    for j in range(int(np.argmax(before)), len(p)):
        if p[j] > 0.5:
            alpha[j] = 1.0
            break
    return alpha


def context(alpha, values):
    """c = sum_j alpha_j h_j."""
    return sum(a * value for a, value in zip(alpha, values, strict=True))
