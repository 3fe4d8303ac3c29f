"""Mutual information of layers in bins, and of layers with noise, against the usual code for the same numbers.

In bins: the plug-in estimate of I(X; T) and I(T; Y) for many layers at once. The peers name a layer's combinations of
bins by ``np.unique``, over rows or, as the code of Saxe et al. does, over rows seen as bytes; then come scipy's
``entropy`` and scikit-learn's ``mutual_info_score``. With noise: the four pairwise bounds of Kolchinsky and Tracey, by
scipy's distances and ``logsumexp``, and by the authors' formula in torch.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from benchmarks import harness
from lessons_lib.measures.information import bin_codes, binned_information, pairwise_information, sphere_task

TITLE = "Mutual information"


def layers(epochs, neurons):
    """tanh layers [epochs, 4096, neurons] of the paper's task that saturate from epoch to epoch, and its labels."""
    task = sphere_task()
    weights = np.random.default_rng(0).normal(size=(12, neurons))
    gains = np.geomspace(0.1, 2, epochs)[:, None, None]
    return np.tanh(gains * (task.inputs.numpy() @ weights)), task.labels.numpy()


# All give I(X; T) and I(T; Y) as one array [2, epochs]. A layer that is a function of x has I(X; T) = H(T).


def from_names(names, y):
    """scipy's entropy and scikit-learn's information from one integer a combination of bins."""
    return entropy(np.bincount(names), base=2), mutual_info_score(names, y) / math.log(2)


def unique_rows(t, y):
    """Combinations of bins named by ``np.unique`` over rows."""
    return np.array([from_names(np.unique(c, axis=0, return_inverse=True)[1].ravel(), y) for c in bin_codes(t, 30)]).T


def unique_bytes(t, y):
    """Combinations named by ``np.unique`` over rows as bytes, at the least width that holds the bins."""
    found = []
    for codes in bin_codes(t, 30).astype(np.uint8):
        rows = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()
        found.append(from_names(np.unique(rows, return_inverse=True)[1], y))
    return np.array(found).T


def ours_binned(t, y):
    """All epochs at once."""
    return np.stack(binned_information(t, y))


# All give lower and upper bounds on I(X; T) and I(T; Y) as one array [4, epochs].


def scipy_bounds(t, y, noise):
    """Distances by ``cdist``, sums by ``logsumexp``, in double precision; cut to [0, H(Y)] as ours are."""

    def bound(squares, scale):
        return -np.mean(logsumexp(squares / (-scale * noise**2), axis=1) - math.log(len(squares))) / math.log(2)

    labels, sizes = np.unique(y, return_counts=True)
    most = -sum(p * math.log2(p) for p in sizes / len(y))
    found = []
    for layer in t:
        squares, given = cdist(layer, layer, "sqeuclidean"), {}
        for scale in (8, 2):
            parts = [bound(squares[np.ix_(y == label, y == label)], scale) for label in labels]
            given[scale] = bound(squares, scale), np.dot(parts, sizes) / len(y)
        (low, low_given), (high, high_given) = given[8], given[2]
        found.append([low, np.clip(low - high_given, 0, most), high, np.clip(high - low_given, 0, most)])
    return np.array(found).T


def torch_bounds(t, y, noise):
    """The same by torch in single precision, as ours is: squared distances as a product, then ``logsumexp``."""

    def squares(x):
        lengths = x.square().sum(1)
        return (lengths[:, None] + lengths - 2 * x @ x.T).clamp_(min=0)

    def bound(distances, scale):
        sums = torch.logsumexp(distances / (-scale * noise**2), 1) - math.log(len(distances))
        return -float(sums.mean()) / math.log(2)

    labels, sizes = np.unique(y, return_counts=True)
    most = -sum(p * math.log2(p) for p in sizes / len(y))
    found = []
    for layer in torch.as_tensor(t).float():
        whole = squares(layer)
        parts = [squares(layer[torch.as_tensor(y == label)]) for label in labels]
        low, high = bound(whole, 8), bound(whole, 2)
        low_given, high_given = (np.dot([bound(p, scale) for p in parts], sizes) / len(y) for scale in (8, 2))
        found.append([low, np.clip(low - high_given, 0, most), high, np.clip(high - low_given, 0, most)])
    return np.array(found).T


def ours_bounds(t, y, noise):
    """All epochs in one call."""
    lower, upper = pairwise_information(t, y, noise)
    return np.stack([*lower, *upper])


BINNED = {
    "np.unique over rows, scikit-learn": unique_rows,
    "np.unique over bytes, scikit-learn": unique_bytes,
    "binned_information": ours_binned,
}
BOUNDS = {
    "scipy's cdist and logsumexp": scipy_bounds,
    "torch, the authors' formula": torch_bounds,
    "pairwise_information": ours_bounds,
}


def difference(variants, *arguments) -> float:
    """The largest difference, in bits, between ours and any other."""
    *theirs, own = (work(*arguments) for work in variants.values())
    return float(max(np.abs(other - own).max() for other in theirs))


def run(suite: harness.Suite) -> None:
    """Compare."""
    for title, variants, size, more, aims, limit in (
        ("in 30 bins", BINNED, (20, 10), (), {"np.unique over bytes, scikit-learn": 2}, 1e-9),
        ("in 30 bins", BINNED, (20, 3), (), {"np.unique over bytes, scikit-learn": 2}, 1e-9),
        ("with noise", BOUNDS, (2, 10), (0.1,), {"torch, the authors' formula": 2}, 1e-3),
    ):
        t, y = layers(*size)
        off = difference(variants, t, y, *more)
        assert off < limit, f"{title}: the results differ by {off:.1e} bits"
        suite.compare(
            f"{title}: {size[0]} layers of {size[1]} neurons, {t.shape[1]:,} inputs",
            {name: lambda work=work, t=t, y=y, more=more: work(t, y, *more) for name, work in variants.items()},
            aims=dict.fromkeys(list(variants)[:-1]) | aims,
            accuracy=f"The results differ by {off:.0e} bits at most.",
        )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
