"""The spectrum of a Hessian made of random parts, by free addition.

Pennington and Bahri, *Geometry of Neural Network Loss Surfaces via Random Matrix Theory* (ICML 2017): for squared
error the Hessian is H = H0 + H1, where H0 = J J^T / m, from the Jacobian, is positive and H1, weighted by the
residuals, has both signs and grows with the energy. If J and the residuals are taken as random and the parts as free,
R-transforms add:

    z = 1 / G + 1 / (1 - phi G) + R1(G)        for G(z), the mean of 1 / (z - eigenvalue)

``phi`` is the number of parameters over that of residuals, ``energy`` half the mean squared residual. For H1 there are
two models: "wigner", R1 = 2 energy G, and "product", the paper's refinement for one hidden layer of rectifiers,
R1 = energy phi G / (2 - energy phi^2 G^2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

MODELS = ("wigner", "product")


def _check(energy: float, phi: float, model: str) -> None:
    if model not in MODELS:
        raise ValueError(f"model is {model!r}; it must be one of: {', '.join(MODELS)}")
    if energy <= 0 or not 0 < phi < 1:
        raise ValueError(f"the energy must be positive and phi lie in (0, 1); got {energy=}, {phi=}")


def sample(
    n: int, energy: float, phi: float, generator: np.random.Generator, model: str = "wigner"
) -> NDArray[np.float64]:
    """A random matrix H0 + H1 [n, n] whose spectrum the theory describes for large n.

    H0 = J J^T / m with J [n, m = n / phi] standard normal. "wigner": H1 symmetric, its entries normal with variance
    2 energy / n. "product": H1 = b (X X^T - Y Y^T) with b = phi sqrt(energy / 2), X and Y [n, n / (2 phi)] normal with
    variance 1 / n, which is the ensemble that has the refined R-transform. Raises ValueError for values out of range.
    """
    _check(energy, phi, model)
    m = round(n / phi)
    jacobian = generator.standard_normal((n, m))
    matrix = jacobian @ jacobian.T / m
    if model == "wigner":
        noise = generator.standard_normal((n, n))
        return matrix + (noise + noise.T) * math.sqrt(energy / n)
    x, y = generator.standard_normal((2, n, round(n / (2 * phi)))) / math.sqrt(n)
    return matrix + phi * math.sqrt(energy / 2) * (x @ x.T - y @ y.T)


def _polynomial(z: NDArray[np.complex128], energy: float, phi: float, model: str) -> NDArray[np.complex128]:
    """Coefficients, highest power first, of the polynomial in G whose root is the resolvent's trace."""
    one = np.ones_like(z)
    if model == "wigner":  # the paper's cubic
        return np.stack([2 * energy * phi * one, -(2 * energy + z * phi), z + phi - 1, -one], -1)
    a, b2 = energy * phi / 2, energy * phi**2 / 2
    third = b2 * (1 - phi) + a * phi - z * b2
    return np.stack([z * phi * b2, third, b2 - a - z * phi, z + phi - 1, -one], -1)


def resolvent(z: ArrayLike, energy: float, phi: float, model: str = "wigner") -> NDArray[np.complex128]:
    """G(z) = the mean of 1 / (z - eigenvalue), at points ``z`` [k] with positive imaginary part.

    It is the polynomial's only root in the lower half of the plane: for G there, the R-transforms of both models lie
    there too, so G -> 1 / (z - R(G)), with R the sum of the two, maps that half into itself and has one fixed point.
    Raises ValueError for values out of range.
    """
    _check(energy, phi, model)
    z = np.asarray(z, dtype=np.complex128)
    if (z.imag <= 0).any():
        raise ValueError("the resolvent is asked for at points with positive imaginary part")
    roots = _roots(_polynomial(z, energy, phi, model))
    return np.take_along_axis(roots, roots.imag.argmin(1)[:, None], 1)[:, 0]


def _roots(coefficients: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Roots [k, degree] of polynomials [k, degree + 1], as eigenvalues of companion matrices."""
    k, degree = len(coefficients), coefficients.shape[1] - 1
    companion = np.zeros((k, degree, degree), dtype=np.complex128)
    companion[:, 0] = -coefficients[:, 1:] / coefficients[:, :1]
    companion[:, range(1, degree), range(degree - 1)] = 1.0
    return np.linalg.eigvals(companion)


def density(
    eigenvalues: ArrayLike, energy: float, phi: float, model: str = "wigner", height: float = 1e-7
) -> NDArray[np.float64]:
    """The density of the spectrum [k] at ``eigenvalues`` [k]: -Im G / pi, a hair (``height``) above the real axis."""
    at = np.asarray(eigenvalues, dtype=np.float64) + 1j * height
    return np.maximum(-resolvent(at, energy, phi, model).imag / math.pi, 0.0)


def left_edge(energy: float, phi: float, model: str = "wigner") -> float:
    """The smallest eigenvalue in the limit of large matrices.

    To the left of the spectrum G is real and negative, and as z rises to the edge G falls, up to where z(G) has
    its maximum: that is the edge. Raises ValueError for values out of range.
    """
    _check(energy, phi, model)
    # The product model's R-transform has a pole where G falls to -sqrt(2 / energy) / phi.
    far = 1e6 if model == "wigner" else math.sqrt(2 / energy) / phi * (1 - 1e-12)

    def negative_z(t: float) -> float:
        g = -math.exp(t)
        noise = 2 * energy * g if model == "wigner" else energy * phi * g / (2 - energy * phi**2 * g**2)
        return -(1 / g + 1 / (1 - phi * g) + noise)

    ends = (math.log(1e-6), math.log(far))
    start = np.linspace(*ends, 400)
    best = start[np.argmin([negative_z(t) for t in start])]
    step = start[1] - start[0]
    found = minimize_scalar(
        negative_z, bounds=(max(best - step, ends[0]), min(best + step, ends[1])), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    return -float(found.fun)


def critical_energy(phi: float, model: str = "wigner") -> float:
    """The energy at which the left edge is at 0: below it no eigenvalue is negative.

    The paper's closed forms: (1 - 20 phi - 8 phi^2 + (1 + 8 phi)^(3/2)) / 16 for "wigner", and for "product", with
    chi = 1 + 16 phi - 8 phi^2, (27 - 18 chi - chi^2 + 8 chi^(3/2)) / (32 phi (1 - phi)^3). Raises ValueError
    out of range.
    """
    _check(1.0, phi, model)
    if model == "wigner":
        return (1 - 20 * phi - 8 * phi**2 + (1 + 8 * phi) ** 1.5) / 16
    chi = 1 + 16 * phi - 8 * phi**2
    return (27 - 18 * chi - chi**2 + 8 * chi**1.5) / (32 * phi * (1 - phi) ** 3)


def index(energy: float, phi: float, model: str = "wigner") -> float:
    """The share of negative eigenvalues in the limit of large matrices.

    The integral of the density from the left edge to 0, in the square root of the distance from the edge, in which
    it is smooth. Raises ValueError for values out of range.
    """
    edge = left_edge(energy, phi, model)
    if edge >= 0:
        return 0.0
    nodes, weights = leggauss(64)
    u = 0.5 * (nodes + 1)  # on (0, 1); eigenvalue = edge (1 - u^2)
    values = density(edge * (1 - u**2), energy, phi, model, height=1e-9 * -edge)
    return float((values * 2 * u * -edge * 0.5 * weights).sum())
