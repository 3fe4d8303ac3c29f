"""How far a sample is from a target whose density is known only up to a constant.

Gorham and Mackey, *Measuring Sample Quality with Stein's Method* (NIPS 2015, arXiv:1506.03039), the graph Stein
discrepancy, and *Measuring Sample Quality with Kernels* (ICML 2017, arXiv:1703.01717), the kernel Stein discrepancy.
Of the target only the score is needed, the gradient of its log density, at the sample's points: the Langevin Stein
operator (T g)(x) = <g(x), score(x)> + <div, g>(x) has mean zero under the target for every g of a set, so its
largest mean over the sample measures how wrong the sample is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.spatial.distance import pdist

Array = NDArray[np.float64]
_BLOCK = 128  # rows at a time: some blocks of 128 x 128 numbers stay in the processor's cache


class SteinError(ValueError):
    """The sample and its scores do not fit together, or the linear program was not solved."""


def _checked(points: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    points, scores = (np.asarray(part, dtype=np.float64) for part in (points, scores))
    points, scores = (part[:, None] if part.ndim == 1 else part for part in (points, scores))
    if points.ndim != 2 or points.shape != scores.shape or len(points) == 0:
        raise SteinError(f"points and scores must both be [n, d]; got {list(points.shape)} and {list(scores.shape)}")
    if not (np.isfinite(points).all() and np.isfinite(scores).all()):
        raise SteinError("points and scores must be finite: look for a sampler that ran away")
    return points, scores


# ------------------------------------------------------------------------------------------------- kernels


@dataclass(frozen=True)
class InverseMultiquadric:
    """k(x, y) = (c^2 + |x - y|^2)^beta; the 2017 paper recommends c = 1, beta = -1/2."""

    c: float = 1.0
    beta: float = -0.5

    def __call__(self, u: Array) -> tuple[Array, Array, Array]:
        """k, k' and u k'', derivatives by the squared distance u."""
        inverse = 1.0 / (self.c**2 + u)
        k = np.sqrt(inverse) if self.beta == -0.5 else inverse**-self.beta
        first = k * inverse
        first *= self.beta
        curved = first * inverse
        curved *= u
        curved *= self.beta - 1
        return k, first, curved


@dataclass(frozen=True)
class Gaussian:
    """k(x, y) = exp(-|x - y|^2 / 2 width^2)."""

    width: float = 1.0

    def __call__(self, u: Array) -> tuple[Array, Array, Array]:
        """k, k' and u k'', derivatives by the squared distance u."""
        rate = 0.5 / self.width**2
        k = np.exp(-rate * u)
        return k, -rate * k, rate**2 * u * k


@dataclass(frozen=True)
class Matern:
    """k(x, y) = (1 + r) exp(-r) with r = sqrt(3) |x - y| / width: the Matern kernel of smoothness 3/2."""

    width: float = 1.0

    def __call__(self, u: Array) -> tuple[Array, Array, Array]:
        """k, k' and u k'', derivatives by the squared distance u; k'' alone is infinite at u = 0."""
        rate = np.sqrt(3) / self.width
        r = rate * np.sqrt(u)
        decay = np.exp(-r)
        return (1 + r) * decay, -0.5 * rate**2 * decay, 0.25 * rate**2 * r * decay


Kernel = Callable[[Array], tuple[Array, Array, Array]]


def ksd(points: ArrayLike, scores: ArrayLike, kernel: Kernel | None = None) -> float:
    """The kernel Stein discrepancy of ``points`` [n, d] with ``scores`` [n, d] of the target there.

    sqrt(mean over all pairs of k0(x_i, x_j)), the pairs i = j among them, with the Stein kernel k0 of the 2017
    paper. For a kernel of the squared distance u = |x - y|^2, with derivatives k' and k'' by u,

        k0 = <s_x, s_y> k - 2 k' (<s_x - s_y, x - y> + d) - 4 u k''.

    Blocks of the upper triangle are made from three matrix products each, so that memory does not grow with n.
    ``kernel`` is InverseMultiquadric() by default. Raises SteinError for shapes that do not fit or values that
    are not finite.
    """
    x, s = _checked(points, scores)
    kernel = kernel or InverseMultiquadric()
    n, d = x.shape
    squares, own, ones = (x * x).sum(1), (s * x).sum(1), np.ones(n)
    # u and <s_x - s_y, x - y> + d as one product each: left[i] @ right[j].
    u_left, u_right = np.column_stack([-2 * x, squares, ones]), np.column_stack([x, ones, squares])
    left, right = np.column_stack([s, x, own + d, ones]), np.column_stack([-x, -s, ones, own])
    total = 0.0
    for i in range(0, n, _BLOCK):
        a = slice(i, i + _BLOCK)
        for j in range(i, n, _BLOCK):
            b = slice(j, j + _BLOCK)
            u = u_left[a] @ u_right[b].T
            np.maximum(u, 0.0, out=u)
            if i == j:
                np.fill_diagonal(u, 0.0)
            k, first, curved = kernel(u)
            part = np.vdot(k, s[a] @ s[b].T) - 2 * np.vdot(first, left[a] @ right[b].T) - 4 * curved.sum()
            total += part if i == j else 2 * part
    return float(np.sqrt(max(total, 0.0)) / n)


# ------------------------------------------------------------------------------------ graph discrepancy


def spanner(points: ArrayLike, stretch: float = 2.0) -> list[tuple[int, int]]:
    """Edges of a graph that connects any two points by at most ``stretch`` times their l1 distance.

    Greedily: pairs by growing distance, each taken if the graph so far does not connect it well enough. In one
    dimension the path through the sorted points, which has stretch 1. Costs O(n^2) for each edge.
    """
    x, _ = _checked(points, points)
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0], kind="stable").tolist()
        return list(zip(order[:-1], order[1:], strict=True))
    n, flat = len(x), pdist(x, "cityblock")
    rows, columns = np.triu_indices(n, 1)
    known = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    edges = []
    for pair in np.argsort(flat, kind="stable"):
        a, b, length = rows[pair], columns[pair], flat[pair]
        if known[a, b] > stretch * length:
            edges.append((int(a), int(b)))
            through = known[:, a, None] + (length + known[b])
            known = np.minimum(known, np.minimum(through, through.T))
    return edges


def graph_discrepancy(points: ArrayLike, scores: ArrayLike, edges: list[tuple[int, int]] | None = None) -> float:
    """The graph Stein discrepancy (2015, section 4) of ``points`` [n, d] with ``scores`` [n, d].

    The largest mean of T g over functions g that are bounded by 1, with derivatives bounded by 1 that change by at most
    the distance, in the l1 norm and its dual, where the bounds are imposed at the points and along ``edges``
    (``spanner`` by default). d independent linear programs, solved by HiGHS. Raises SteinError where one is not
    solved, and for shapes that do not fit.
    """
    x, s = _checked(points, scores)
    edges = spanner(x) if edges is None else edges
    return float(sum(_program(x, s[:, j], edges, j) for j in range(x.shape[1])))


def _program(x: Array, score: Array, edges: list[tuple[int, int]], j: int) -> float:
    """The largest mean of g score + d_j g. Variables are g at the points, then its d derivatives there."""
    n, d = x.shape
    a, b = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    difference = x[a] - x[b]
    length = np.abs(difference).sum(1)
    m = len(length)

    def at(k: int, i: Array) -> Array:
        """The variable that is derivative k at point i."""
        return n * (k + 1) + i

    rows, columns, values, limits = [], [], [], []

    def add(places: list[Array], weights: list[Array | float], limit: Array) -> None:
        start = sum(map(len, limits))
        for place, weight in zip(places, weights, strict=True):
            rows.append(start + np.arange(m))
            columns.append(place)
            values.append(np.broadcast_to(weight, m))
        limits.append(limit)

    add([a, b], [1.0, -1.0], length)
    for k in range(d):
        add([at(k, a), at(k, b)], [1.0, -1.0], length)
    for end in (a, b):  # Taylor's remainder, from either end
        slopes = [-difference[:, k] for k in range(d)]
        add([a, b, *(at(k, end) for k in range(d))], [1.0, -1.0, *slopes], 0.5 * length**2)
    size = n * (d + 1)
    limit = np.concatenate(limits)
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_array((np.concatenate(values), places), shape=(len(limit), size)).tocsr()
    goal = np.zeros(size)
    goal[:n] = score / n
    goal[at(j, np.arange(n))] = 1.0 / n
    found = milp(-goal, constraints=LinearConstraint(matrix, -limit, limit), bounds=Bounds(-1, 1))
    if found.status != 0:
        raise SteinError(f"the linear program of coordinate {j} was not solved: {found.message}")
    return -found.fun
