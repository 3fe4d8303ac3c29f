"""Which of all interpolating linear models: minimum norm, ridge's limit, and the same with a kernel.

Section 5 of Zhang, Bengio, Hardt, Recht and Vinyals, *Understanding deep learning requires rethinking
generalization* (ICLR 2017, arXiv:1611.03530). Targets are [n] or [n, outputs]; solutions keep that last
axis. All arithmetic is float64: unregularized systems are ill-conditioned.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel


class SingularSystemError(ValueError):
    """The linear system has no exact solution for arbitrary targets, or none that float64 can find."""


@dataclass(frozen=True)
class KernelFit:
    """Coefficients of f(x) = sum_i alpha_i k(x, x_i).

    ``alpha`` [n] or [n, outputs]; ``residual`` the largest |f(x_i) - y_i| over training points and outputs;
    ``norm`` the RKHS norm of f, see ``rkhs_norm``.
    """

    alpha: NDArray[np.float64]
    residual: float
    norm: float


def min_norm_solution(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """The smallest w with X w = y, as the paper finds it: w = X^T alpha with K alpha = y, K = X X^T.

    ``x`` [n, d] of rank n, ``y`` [n] or [n, outputs]; w [d] or [d, outputs]. Raises SingularSystemError where
    X X^T is numerically singular (rank of ``x`` below n): then not every y can be fitted.
    """
    x, y = _pair(x, y)
    return x.T @ kernel_interpolation(x @ x.T, y).alpha


def ridge_path(x: ArrayLike, y: ArrayLike, penalties: Sequence[float]) -> NDArray[np.float64]:
    """The minimizers of |X w - y|^2 + penalty |w|^2, one for each of ``penalties``.

    ``x`` [n, d], ``y`` [n] or [n, outputs]; [penalties, d] or [penalties, d, outputs]. With X = U S V^T each
    is V diag(s / (s^2 + penalty)) U^T y. Penalty 0 gives the limit: the pseudo-inverse's solution, of minimum
    norm among the least-squares solutions, whatever the rank. (The sum of squares, not their mean, as in
    sklearn's ``Ridge``.)

    Raises ValueError for a negative penalty.
    """
    x, y = _pair(x, y)
    if min(penalties) < 0:
        raise ValueError(f"penalties must be 0 or more, not {min(penalties)}.")
    u, s, vt = _thin_svd(x)
    coordinates = (u.T @ y).reshape(s.size, -1)
    path = [vt.T @ ((s / (s**2 + penalty))[:, None] * coordinates) for penalty in penalties]
    return np.stack(path).reshape(len(penalties), x.shape[1], *y.shape[1:])


def ridge_solution(x: ArrayLike, y: ArrayLike, penalty: float) -> NDArray[np.float64]:
    """The minimizer of |X w - y|^2 + penalty |w|^2 [d] or [d, outputs]; see ``ridge_path``."""
    return ridge_path(x, y, [penalty])[0]


def null_space_directions(x: ArrayLike, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """``n`` random unit vectors v [d, n] with X v = 0, uniform on the sphere of that null space.

    Adding any of them to w leaves every training prediction X w as it was.
    Raises SingularSystemError where ``x`` [n, d] has rank d: then only v = 0 would do.
    """
    x = np.asarray(x, np.float64)
    _, s, vt = _thin_svd(x)
    if s.size == x.shape[1]:
        raise SingularSystemError(
            f"x {x.shape} has full column rank, so no direction leaves its predictions alone. "
            "Take more features than points."
        )
    v = generator.standard_normal((x.shape[1], n))
    for _ in range(2):  # the second pass removes what rounding left of the first
        v -= vt.T @ (vt @ v)
    return v / np.linalg.norm(v, axis=0)


def linear_kernel(x: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
    """k(x, z) = <x, z>: [n, d], [m, d] -> [n, m]. Its matrix has rank at most d."""
    return np.asarray(x, np.float64) @ np.asarray(z, np.float64).T


def gaussian_kernel(x: ArrayLike, z: ArrayLike, width: float) -> NDArray[np.float64]:
    """k(x, z) = exp(-|x - z|^2 / (2 width^2)): [n, d], [m, d] -> [n, m]. ``width`` has the unit of x."""
    return rbf_kernel(np.asarray(x, np.float64), np.asarray(z, np.float64), gamma=1 / (2 * width**2))


def laplacian_kernel(x: ArrayLike, z: ArrayLike, width: float) -> NDArray[np.float64]:
    """k(x, z) = exp(-|x - z| / width): [n, d], [m, d] -> [n, m], with the Euclidean distance.

    As in Belkin, Ma and Mandal (2018, arXiv:1802.01396); sklearn's kernel of that name takes the l1 distance.
    """
    kernel = euclidean_distances(np.asarray(x, np.float64), np.asarray(z, np.float64))
    kernel /= -width
    return np.exp(kernel, out=kernel)


def kernel_interpolation(kernel: ArrayLike, y: ArrayLike, ridge: float = 0.0) -> KernelFit:
    """Solve (K + ridge I) alpha = y for a symmetric ``kernel`` matrix K [n, n]; ridge 0 interpolates.

    ``y`` [n] or [n, outputs]. Raises SingularSystemError where the matrix is not numerically positive
    definite: at ridge 0 that says the kernel has too few dimensions (a linear kernel, d < n), too great a width,
    or that points are equal.
    """
    kernel, y = _pair(kernel, y)
    system = kernel.copy()
    system[np.diag_indices_from(system)] += ridge
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
            alpha = scipy.linalg.solve(system, y, assume_a="pos", overwrite_a=True)
    except (scipy.linalg.LinAlgError, scipy.linalg.LinAlgWarning) as error:
        raise SingularSystemError(
            f"the {len(kernel)} x {len(kernel)} kernel matrix is not numerically positive definite at ridge "
            f"{ridge:g}, so not every target can be interpolated. Take a larger ridge, a narrower kernel, "
            "more features than points (a linear kernel's rank is at most d), or one of each set of equal points."
        ) from error
    return KernelFit(alpha, float(np.abs(kernel @ alpha - y).max()), rkhs_norm(kernel, alpha))


def rkhs_norm(kernel: ArrayLike, alpha: ArrayLike) -> float:
    """The norm of f = sum_i alpha_i k(., x_i): sqrt(alpha^T K alpha).

    For ``alpha`` [n, outputs] the root of the sum of squares over outputs. For the linear kernel that is the
    Euclidean (Frobenius) norm of w = X^T alpha.
    """
    alpha = np.asarray(alpha, np.float64)
    # Rounding can leave a tiny negative number where the norm is 0.
    return float(np.sqrt(max(np.sum(alpha * (np.asarray(kernel, np.float64) @ alpha)), 0.0)))


def _thin_svd(x: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """U, s, V^T without the directions that are zero to rounding (numpy's own rank tolerance)."""
    u, s, vt = scipy.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > s[0] * max(x.shape) * np.finfo(np.float64).eps))
    return u[:, :rank], s[:rank], vt[:rank]


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ValueError(f"shapes {x.shape} and {y.shape} do not fit: [n, d] goes with [n] or [n, outputs].")
    return x, y
