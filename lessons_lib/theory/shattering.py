"""ReLU networks that take any values on any n points, built by hand instead of trained.

Theorem 1 and Corollary 1 of Zhang, Bengio, Hardt, Recht and Vinyals, *Understanding deep learning
requires rethinking generalization* (ICLR 2017, arXiv:1611.03530). Everything is float64: the closest
neighbours on the line are about 1/n**2 apart, so the weights reach 1e6 at n = 1000 and float32 cannot carry them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of this many random projections the one with the widest smallest gap is kept: two to four times
# wider than a single draw's at n = 1000, and the weights that much smaller.
PROJECTIONS = 32

# Where each bias sits between two neighbouring points, as a fraction p of their gap. The theorem allows any
# place strictly between, but each slope carries -p / (1 - p) of the one before it: slopes die out below 1/2, add
# up at 1/2, and above it grow exponentially with n (at 3/4 and n = 1000 the weights overflow).
BIAS_POSITION = 0.25


class ShatteringError(ValueError):
    """The points or values handed in cannot be fitted, or not as asked."""


@dataclass(frozen=True)
class ShatteringNetwork:
    """The network c(x) = sum_j w_j max(<a, x> - b_j, 0) of Theorem 1.

    ``a`` [d] is the projection, ``b`` [n] the biases in increasing order, ``w`` [n] the output weights.
    The n hidden units share the row ``a``: that is how 2n + d weights suffice.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    w: NDArray[np.float64]

    @property
    def n_weights(self) -> int:
        """The number of weights, 2n + d."""
        return self.a.size + self.b.size + self.w.size

    def project(self, x: ArrayLike) -> NDArray[np.float64]:
        """The points ``x`` [m, ...] on the line: <a, x> [m]."""
        return _rows(x) @ self.a

    def on_line(self, z: ArrayLike) -> NDArray[np.float64]:
        """The network as a function of the projection: ``z`` [m] to outputs [m]."""
        z = np.asarray(z, np.float64)
        rows = max(1, 2**24 // self.b.size)  # 128 MiB of hidden units at a time
        blocks = [np.maximum(z[i : i + rows, None] - self.b, 0) @ self.w for i in range(0, z.size, rows)]
        return np.concatenate([np.empty(0), *blocks])

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Outputs [m] at the points ``x`` [m, ...] (trailing axes are flattened)."""
        return self.on_line(self.project(x))


@dataclass(frozen=True)
class DeepShatteringNetwork:
    """A plain ReLU network of any depth: h <- max(W h + b, 0) for every layer but the last, which is linear.

    ``weights`` [out, in] and ``biases`` [out], one each a layer.
    """

    weights: tuple[NDArray[np.float64], ...]
    biases: tuple[NDArray[np.float64], ...]

    @property
    def depth(self) -> int:
        """Layers of weights."""
        return len(self.weights)

    @property
    def width(self) -> int:
        """Units in the widest hidden layer."""
        return max(len(bias) for bias in self.biases[:-1])

    @property
    def n_weights(self) -> int:
        """Weights and biases that are not zero."""
        return sum(np.count_nonzero(array) for array in (*self.weights, *self.biases))

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Outputs [m] at the points ``x`` [m, ...] (trailing axes are flattened)."""
        h = _rows(x)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ weight.T + bias, 0)
        return (h @ self.weights[-1].T + self.biases[-1])[:, 0]


def shatter(x: ArrayLike, y: ArrayLike, generator: np.random.Generator) -> ShatteringNetwork:
    """The network of 2n + d weights that takes the values ``y`` [n] at the points ``x`` [n, ...] (Theorem 1).

    The points are projected to a line by the best of ``PROJECTIONS`` random directions, one bias is put before
    each, and the triangular system A w = y with A_ij = max(z_i - b_j, 0) is solved. Trailing axes of ``x`` are
    flattened to d.

    Raises ShatteringError if two points are equal, if no direction tells all points apart, if ``x`` or ``y``
    is not finite or if their shapes do not match.
    """
    x, y = _checked(x, y)
    a = _projection(x, generator)
    z = x @ a
    order = np.argsort(z)
    b, w = solve_on_line(z[order], y[order])
    return ShatteringNetwork(a, b, w)


def shatter_deep(x: ArrayLike, y: ArrayLike, depth: int, generator: np.random.Generator) -> DeepShatteringNetwork:
    """The same function in ``depth`` layers of width O(n / depth), with O(n + d) weights (Corollary 1).

    The first layer computes u = max(<a, x> - b_1, 0), once: no weight is shared here. Each of the depth - 2
    layers after it holds an equal share of Theorem 1's units and hands on u and the sum so far, the latter as its
    positive and its negative part. Width at most ceil((n - 1) / (depth - 2)) + 3; non-zero weights at most
    4n + d + 7 depth. The construction is ours; the corollary asserts these orders.

    Raises ShatteringError as ``shatter`` does, and for a ``depth`` outside 3 .. n + 1.
    """
    x, y = _checked(x, y)
    n = len(x)
    if not 3 <= depth <= n + 1:
        raise ShatteringError(f"depth is {depth}; {n} points allow 3 to {n + 1} (for depth 2 use shatter).")
    shallow = shatter(x, y, generator)
    weights, biases = [shallow.a[None]], [-shallow.b[:1]]

    # Row vectors that read the previous layer: u itself, and the sum of the units it completes.
    u, total = np.ones(1), shallow.w[:1]
    for share in np.array_split(np.arange(1, n), depth - 2):
        k = share.size
        weights.append(np.vstack([np.tile(u, (k, 1)), u, total, -total]))
        biases.append(np.append(shallow.b[0] - shallow.b[share], np.zeros(3)))
        u = np.eye(1, k + 3, k)[0]
        total = np.concatenate([shallow.w[share], [0.0, 1.0, -1.0]])
    return DeepShatteringNetwork((*weights, total[None]), (*biases, np.zeros(1)))


def solve_on_line(z, y, position=BIAS_POSITION):
    """Biases and weights (b [n], w [n]) with sum_j w_j max(z_i - b_j, 0) = y_i, for increasing ``z`` [n].

    ``position`` in (0, 1) places b_j between z_{j-1} and z_j. The triangular system is solved by following the
    piecewise linear function from left to right: w_j is the change of slope at b_j. That takes n steps and no
    n x n matrix, and leaves residuals within a factor of about five of scipy's solve_triangular. Only + - * /
    are used, so arrays of ``fractions.Fraction`` give the exact solution.
    """
    gaps = np.diff(z)
    first = gaps.mean() if gaps.size else 1
    b = np.concatenate([[z[0] - first], z[:-1] + position * gaps])
    w = np.empty_like(b)
    slope, last_z, last_y = 0, b[0], 0
    for j in range(len(z)):
        at_bias = last_y + slope * (b[j] - last_z)
        new_slope = (y[j] - at_bias) / (z[j] - b[j])
        w[j] = new_slope - slope
        slope, last_z, last_y = new_slope, z[j], y[j]
    return b, w


def _projection(x: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    candidates = generator.standard_normal((x.shape[1], PROJECTIONS))
    candidates /= np.linalg.norm(candidates, axis=0)
    if len(x) == 1:
        return candidates[:, 0]
    gaps = np.diff(np.sort(x @ candidates, axis=0), axis=0).min(axis=0)
    best = gaps.argmax()
    # Below this the difference of two projections is rounding error.
    if gaps[best] <= 8 * np.finfo(np.float64).eps * np.linalg.norm(x, axis=1).max():
        raise ShatteringError(
            f"none of {PROJECTIONS} random projections tells all {len(x)} points apart in float64: "
            "two of them are too close. Leave one of each such pair out, or centre and rescale the data."
        )
    return candidates[:, best]


def _rows(x: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(x, np.float64)
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim < 2 or y.shape != x.shape[:1] or x.size == 0:
        raise ShatteringError(
            f"x has shape {x.shape} and y {y.shape}; needed: at least one point, x [n, ...], "
            "and one value a point, y [n]."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ShatteringError("x and y must be finite; remove the points with NaN or infinite entries.")
    x = _rows(x)
    _, first, inverse = np.unique(x, axis=0, return_index=True, return_inverse=True)
    earliest = first[inverse.ravel()]
    repeated = np.flatnonzero(earliest != np.arange(len(x)))
    if repeated.size:
        i, j = earliest[repeated[0]], repeated[0]
        raise ShatteringError(
            f"points {i} and {j} are equal (values {y[i]:g} and {y[j]:g}): a function takes one value at a point. "
            "Keep one of each, e.g. with numpy.unique(x, axis=0, return_index=True)."
        )
    return x, y
