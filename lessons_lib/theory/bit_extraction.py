"""Networks with weights set by hand that compute polynomials from the binary digits of their input.

Liang and Srikant, *Why Deep Neural Networks for Function Approximation?* (ICLR 2017, arXiv:1610.04161): a chain of
step units reads off the digits of x, one rectifier multiplies a number by a digit, and so a number of units that
grows with log(1/error) suffices where a network of bounded depth needs a power of 1/error. Beside it the
rectifiers-only sawtooth of Yarotsky 2017 (arXiv:1610.01145), and the best that one hidden layer can do.

Inputs lie in [0, 1]. Arithmetic is float64, which holds the digits exactly up to some 50 of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

Terms = Mapping[int, float]


@dataclass
class UnitNetwork:
    """A feedforward network written down unit by unit.

    Node k < ``n_inputs`` is an input; each further node is a unit that applies ReLU, max(0, z), or the binary step,
    1 where z >= 0, to an affine function of any earlier nodes. The output is affine in all nodes.
    """

    n_inputs: int = 1
    units: list[tuple[str, Terms, float]] = field(default_factory=list)
    output: tuple[Terms, float] = field(default_factory=lambda: ({}, 0.0))

    def add(self, kind: str, terms: Terms, bias: float = 0.0) -> int:
        """Append a unit; gives its node. Raises ValueError for an unknown kind, or a node that is not earlier."""
        if kind not in ("relu", "step"):
            raise ValueError(f"a unit is 'relu' or 'step'; got {kind!r}")
        here = self.n_inputs + len(self.units)
        if late := [node for node in terms if not 0 <= node < here]:
            raise ValueError(f"unit {here} can read nodes 0 to {here - 1} only; got {late}")
        self.units.append((kind, dict(terms), float(bias)))
        return here

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Outputs [n] for inputs [n] or [n, n_inputs]. Raises ValueError for another number of inputs."""
        x = np.asarray(x, dtype=np.float64)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"the network has {self.n_inputs} inputs; got an array of shape {list(x.shape)}")
        nodes = list(x.T)
        for kind, terms, bias in self.units:
            z = _affine(nodes, terms, bias)
            nodes.append(np.maximum(z, 0.0) if kind == "relu" else (z >= 0).astype(np.float64))
        return _affine(nodes, *self.output)

    def count(self, kind: str | None = None) -> int:
        """The number of units, or of those of one kind."""
        return sum(kind in (None, own) for own, _, _ in self.units)

    @property
    def depth(self) -> int:
        """The number of layers of units: the longest chain in which each reads the one before."""
        depths = [0] * self.n_inputs
        for _, terms, _ in self.units:
            depths.append(1 + max((depths[node] for node in terms), default=0))
        return max(depths)


def _affine(nodes: Sequence[NDArray[np.float64]], terms: Terms, bias: float) -> NDArray[np.float64]:
    total = np.full(len(nodes[0]), bias)
    for node, weight in terms.items():
        total += weight * nodes[node]
    return total


# ------------------------------------------------------------------------------------------ binary digits


def digits(net: UnitNetwork, node: int, n: int) -> list[int]:
    """Add n step units that give the first n binary digits of ``node``, a number in [0, 1]; gives their nodes.

    Digit i is 1 where what the earlier digits leave of x is at least 2^-i. At x = 1 all are 1, so that x less
    the number they spell lies in [0, 2^-n] everywhere.
    """
    if n < 1:
        raise ValueError(f"n is {n}; at least one digit is needed")
    found: list[int] = []
    for i in range(1, n + 1):
        earlier = {bit: -(2.0**-j) for j, bit in enumerate(found, start=1)}
        found.append(net.add("step", {node: 1.0, **earlier}, -(2.0**-i)))
    return found


def times(net: UnitNetwork, number: Terms, factors: Sequence[tuple[float, Sequence[int]]]) -> Terms:
    """Add units that multiply a number by a weighted sum of numbers given by their digits.

    ``number`` is affine in the nodes, with values in [0, 2); ``factors`` are (weight, digits) pairs with weights
    >= 0. The product, affine in the new units, is sum_f weight_f sum_i 2^-i max(0, 2 (digit_fi - 1) + number):
    one ReLU a digit, for max(0, 2 (b - 1) + y) is b y (the paper's key identity).
    """
    product: dict[int, float] = {}
    for weight, bits in factors:
        for i, bit in enumerate(bits, start=1):
            terms = dict(number)
            terms[bit] = terms.get(bit, 0.0) + 2.0
            product[net.add("relu", terms, -2.0)] = weight * 2.0**-i
    return product


def polynomial(coefficients: Sequence[float], n: int) -> UnitNetwork:
    """A network for sum_k a_k x^k from n digits of x: n step units and (p - 1) n ReLUs for degree p.

    ``coefficients`` are a_0 to a_p. It computes the polynomial at the number spelled by the digits, so the error
    is at most 2^-n sum_k k |a_k|: an error of epsilon takes about log2(p / epsilon) digits.
    """
    net = UnitNetwork()
    bits = digits(net, 0, n)
    power: Terms = {bit: 2.0**-i for i, bit in enumerate(bits, start=1)}
    output: dict[int, float] = {}
    for k, coefficient in enumerate(coefficients[1:], start=1):
        if k > 1:
            power = times(net, power, [(1.0, bits)])
        if coefficient:
            for node, weight in power.items():
                output[node] = output.get(node, 0.0) + coefficient * weight
    net.output = (output, float(coefficients[0]))
    return net


def power(p: int, n: int) -> UnitNetwork:
    """A network for x^p from n digits of x: n step units and (p - 1) n ReLUs, error at most p 2^-n."""
    if p < 1:
        raise ValueError(f"p is {p}; the power must be at least 1")
    return polynomial([0.0] * p + [1.0], n)


def product_of_forms(forms: ArrayLike, n: int) -> UnitNetwork:
    """A network for prod_l w_l . x on [0, 1]^d from n digits of each input.

    ``forms`` [p, d] holds the w_l, with entries >= 0 that sum to at most 1 in each. n d step units and at most
    (p - 1) n d ReLUs, error at most p 2^-n. Raises ValueError for other weights.
    """
    forms = np.asarray(forms, dtype=np.float64)
    if forms.ndim != 2 or (forms < 0).any() or (forms.sum(1) > 1 + 1e-12).any():
        raise ValueError("forms must be [p, d], with entries of at least 0 that sum to at most 1 in each row")
    net = UnitNetwork(n_inputs=forms.shape[1])
    bits = [digits(net, node, n) for node in range(forms.shape[1])]
    first = zip(forms[0], bits, strict=True)
    value: Terms = {bit: weight * 2.0**-i for weight, own in first for i, bit in enumerate(own, start=1)}
    for form in forms[1:]:
        value = times(net, value, [(weight, own) for weight, own in zip(form, bits, strict=True) if weight])
    net.output = (value, 0.0)
    return net


# -------------------------------------------------------------------------------------- rectifiers alone


def sawtooth(m: int) -> UnitNetwork:
    """The tent map composed m times, 2^m straight pieces from 2 m ReLUs (Telgarsky 2015).

    tent(x) = 2 max(0, x) - 4 max(0, x - 1/2) on [0, 1].
    """
    net = UnitNetwork()
    net.output = (_teeth(net, m)[-1], 0.0)
    return net


def sawtooth_square(m: int) -> UnitNetwork:
    """A network for x^2 from 2 m ReLUs: x - sum_{s <= m} tent^s(x) / 4^s, error exactly 4^-(m + 1) (Yarotsky 2017).

    It interpolates x^2 at the multiples of 2^-m.
    """
    net = UnitNetwork()
    output = {0: 1.0}
    for s, tooth in enumerate(_teeth(net, m), start=1):
        for node, weight in tooth.items():
            output[node] = output.get(node, 0.0) - weight / 4.0**s
    net.output = (output, 0.0)
    return net


def _teeth(net: UnitNetwork, m: int) -> list[Terms]:
    if m < 1:
        raise ValueError(f"m is {m}; at least one tent is needed")
    value, found = {0: 1.0}, []
    for _ in range(m):
        value = {net.add("relu", value): 2.0, net.add("relu", value, -0.5): -4.0}
        found.append(value)
    return found


# ------------------------------------------------------------------------------------------ one hidden layer


def best_spline(f: Callable[[float], float], pieces: int) -> tuple[UnitNetwork, float]:
    """The best approximation of a strictly convex f on [0, 1] by ``pieces`` straight pieces, and its error.

    Between knots a < b the chord lies above f; lowered by half its largest gap it is the best line, and with equal
    gaps in all pieces the lowered chords join up: a continuous spline whose error equioscillates, which no
    spline with as many pieces can beat. The knots follow from the gap by marching from 0, the gap from the
    last knot being 1. As a network it has one hidden layer of ``pieces`` - 1 ReLUs beside the input itself.
    """
    if pieces < 1:
        raise ValueError(f"pieces is {pieces}; a spline has at least one")

    def gap(a: float, b: float) -> float:
        slope = (f(b) - f(a)) / (b - a)
        inner = minimize_scalar(lambda c: f(c) - slope * c, bounds=(a, b), method="bounded", options={"xatol": 1e-12})
        return f(a) - slope * a - float(inner.fun)

    def march(size: float) -> list[float]:
        knots = [0.0]
        while len(knots) < pieces and gap(knots[-1], 1.0) > size:
            start = knots[-1]
            knots.append(brentq(lambda b, start=start: gap(start, b) - size, start + 1e-9, 1.0, xtol=1e-14))
        return [*knots, 1.0]

    whole = gap(0.0, 1.0)
    size, knots = whole, [0.0, 1.0]
    if pieces > 1:
        # The last piece's gap falls as the others' rises; they are equal at the optimum.
        size = brentq(lambda s: gap(march(s)[-2], 1.0) - s, whole / (4 * pieces**2), whole * (1 - 1e-9), xtol=1e-15)
        knots = march(size)
    values = [f(knot) - size / 2 for knot in knots]
    slopes = np.diff(values) / np.diff(knots)
    net = UnitNetwork()
    output = {0: float(slopes[0])}
    for knot, change in zip(knots[1:-1], np.diff(slopes), strict=True):
        output[net.add("relu", {0: 1.0}, -knot)] = float(change)
    net.output = (output, values[0])
    return net, size / 2


def least_units(error: float, layers: int, convexity: float) -> float:
    """Fewer ReLU and step units than this, in ``layers`` layers, cannot approximate f on [0, 1] to ``error``.

    f'' >= ``convexity`` > 0. On an interval of length h no line is closer to f than convexity h^2 / 16, so
    sqrt(convexity / 16 error) pieces are needed; and a layer of k units cuts each piece into at most k + 1, so L
    layers of N units in all make at most (1 + N / L)^L. The paper's lower bound, with the constants of this count.
    """
    if error <= 0 or convexity <= 0 or layers < 1:
        raise ValueError(f"{error=} and {convexity=} must be positive, {layers=} at least 1")
    return max(0.0, layers * (math.sqrt(convexity / (16 * error)) ** (1 / layers) - 1))
