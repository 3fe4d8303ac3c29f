"""Signals in infinitely wide random networks: how long they are, and how fast neighbours part.

Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, *Exponential expressivity in deep neural networks through transient
chaos* (NIPS 2016, arXiv:1606.05340). Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2). As the width grows,
a layer's pre-activations become Gaussian with the variance

    q' = sigma_w^2 E[phi(sqrt(q) u)^2] + sigma_b^2,    u ~ N(0, 1)                             (their equation 3)

and a small displacement of the input is stretched, from the pre-activations of one layer to the next, by

    sqrt(chi),    chi = sigma_w^2 E[phi'(sqrt(q) u)^2].                                        (their equation 9)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf


@dataclass(frozen=True)
class Moments:
    """E[phi(sqrt(q) u)^2] and E[phi'(sqrt(q) u)^2] as functions of the variance q, in closed form."""

    square: Callable[[float], float]
    slope: Callable[[float], float]


def _hard_tanh_square(q: float) -> float:
    if q == 0:
        return 0.0
    a = 1 / math.sqrt(q)
    inside = erf(a / math.sqrt(2))
    return q * (inside - math.sqrt(2 / math.pi) * a * math.exp(-(a**2) / 2)) + 1 - inside


def _hard_tanh_slope(q: float) -> float:
    return erf(1 / math.sqrt(2 * q)) if q > 0 else 1.0


ACTIVATIONS = {
    "hard tanh": Moments(_hard_tanh_square, _hard_tanh_slope),
    "relu": Moments(lambda q: q / 2, lambda q: 0.5),
}


def variances(activation: str, sigma_w: float, sigma_b: float, q: float, depth: int) -> NDArray[np.float64]:
    """Variances of the pre-activations of layers 1, ..., depth, if those of layer 1 have variance ``q``.

    For an input x of m numbers, q = sigma_w^2 |x|^2 / m + sigma_b^2. Raises ValueError for an unknown activation.
    """
    moments = _moments(activation)
    values = [q]
    while len(values) < depth:
        values.append(sigma_w**2 * moments.square(values[-1]) + sigma_b**2)
    return np.array(values)


def stretch(activation: str, sigma_w: float, sigma_b: float, q: float, depth: int) -> NDArray[np.float64]:
    """By how much each of the layers 1, ..., depth stretches a short piece of path, from z_(d-1) to z_d.

    Its square is chi at that layer's own variance; ``q`` is layer 1's. A path on which q is constant, such as a
    circle through two perpendicular inputs of one length, is stretched by this as a whole.
    """
    moments = _moments(activation)
    chi = [sigma_w**2 * moments.slope(each) for each in variances(activation, sigma_w, sigma_b, q, depth)]
    return np.sqrt(chi)


def fixed_point(activation: str, sigma_w: float, sigma_b: float = 0.0) -> tuple[float, float]:
    """The variance q* at which a deep network settles, and the stretch sqrt(chi) there.

    Hard tanh has one for every sigma_w; without biases it is 0 up to sigma_w = 1. Raises ValueError for ReLU, whose
    variances grow or shrink for ever unless sigma_w^2 is 2 and there are no biases.
    """
    if activation == "relu":
        raise ValueError("ReLU has no fixed point to settle at: its stretch is sigma_w / sqrt(2) at every q.")
    moments, q = _moments(activation), 1.0
    for _ in range(100_000):
        q, before = sigma_w**2 * moments.square(q) + sigma_b**2, q
        if abs(q - before) < 1e-14 * max(q, 1e-3):
            break
    if sigma_w <= 1 and sigma_b == 0:
        q = 0.0  # approached more slowly than any exponential at sigma_w = 1
    return q, math.sqrt(sigma_w**2 * moments.slope(q))


def _moments(activation: str) -> Moments:
    if activation not in ACTIVATIONS:
        raise ValueError(f"no closed form for {activation!r}; there are: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[activation]
