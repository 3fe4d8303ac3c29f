"""How a function of many parts depends on two groups of them together: separation rank.

Cohen and Shashua, *Inductive Bias of Deep Convolutional Networks through Pooling Geometry* (ICLR 2017,
arXiv:1605.06743, section 3). The separation rank of h for a partition (I, J) of its arguments is the least number of
terms in h = sum_v g_v(x_I) g'_v(x_J); for a grid tensor it is the rank of the matrix with x_I as rows and x_J as
columns (their claim 1). Rank 1 means that the two groups do not interact at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lessons_lib.theory.arithmetic_circuits import PRIME


def matricize(tensor: NDArray, part: Iterable[int]) -> NDArray:
    """The tensor as a matrix: axes in ``part``, in order, are rows, the others columns.

    Raises ValueError where ``part`` names an axis twice, or one that there is not, or all or none.
    """
    rows = list(part)
    if len(set(rows)) != len(rows) or not set(rows) < set(range(tensor.ndim)) or not rows:
        raise ValueError(f"{rows} is not a part of the axes 0, ..., {tensor.ndim - 1}: some, not all, each once.")
    columns = [axis for axis in range(tensor.ndim) if axis not in rows]
    size = int(np.prod([tensor.shape[axis] for axis in rows]))
    return tensor.transpose(rows + columns).reshape(size, -1)


def rank_modulo(matrix: NDArray[np.int64], prime: int = PRIME) -> int:
    """The rank over the integers modulo a prime below 2^31, by Gaussian elimination; exact.

    For a matrix of polynomials at random residues this is the rank that almost all real arguments give, but with a
    probability of some degree / prime (Schwartz and Zippel), and it is never more than that.
    """
    if not np.issubdtype(np.asarray(matrix).dtype, np.integer):
        raise ValueError(f"the matrix holds {np.asarray(matrix).dtype}; ranks modulo a prime need integers.")
    rows = np.array(matrix, dtype=np.int64) % prime
    if rows.shape[0] > rows.shape[1]:
        rows = rows.T.copy()
    rank = 0
    for column in range(rows.shape[1]):
        pivots = np.flatnonzero(rows[rank:, column])
        if not len(pivots):
            continue
        pivot = rank + pivots[0]
        rows[[rank, pivot]] = rows[[pivot, rank]]
        inverse = pow(int(rows[rank, column]), -1, prime)
        rows[rank, column:] = rows[rank, column:] * inverse % prime
        below = rows[rank + 1 :, column, None]
        # Residues lie below 2^31, so the difference fits into 63 bits and one reduction is enough.
        rows[rank + 1 :, column:] = (rows[rank + 1 :, column:] - below * rows[rank, column:]) % prime
        rank += 1
        if rank == len(rows):
            break
    return rank


def separation_rank(tensor: NDArray[np.int64], part: Iterable[int], prime: int = PRIME) -> int:
    """The rank of a grid tensor of residues for the partition of its axes into ``part`` and the others."""
    return rank_modulo(matricize(tensor, part), prime)


def separable_share(tensor: NDArray[np.float64], part: Iterable[int]) -> NDArray[np.float64]:
    """Normalized singular values of the matrix, descending, their squares summing to 1.

    1 minus the square of the first is the squared distance to the nearest separable function, relative to the whole:
    how much the groups interact, where the rank says in how many ways they can.
    """
    values = np.linalg.svd(matricize(tensor, part), compute_uv=False)
    return values / np.sqrt((values**2).sum())
