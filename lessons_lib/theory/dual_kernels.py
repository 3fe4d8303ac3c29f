"""The kernel for which a random network stands: dual activations, computation skeletons and their kernels.

Daniely, Frostig and Singer, *Toward Deeper Understanding of Neural Networks: The Power of Initialization and a Dual
View on Expressivity* (NIPS 2016, arXiv:1602.05897). An activation is normalized, E[s(z)^2] = 1 for a standard normal
z. Its dual activation is s^(rho) = E[s(u) s(v)], (u, v) standard normal with correlation rho (their section 4). A
skeleton is a graph whose nodes average their children and apply an activation; replacing s by s^ gives its
compositional kernel (their definition 2), replacing each node by r neurons with Gaussian weights gives a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import eval_hermitenorm, factorial
from torch import Tensor

# Numbers in one block of rows of all nodes' kernels together: a few MB, so that a block stays in the cache.
_BLOCK = 400_000


@dataclass(frozen=True)
class Activation:
    """A normalized activation and its dual, both elementwise functions of tensors."""

    function: Callable[[Tensor], Tensor]
    dual: Callable[[Tensor], Tensor]


def _angle_left(rho: Tensor) -> Tensor:
    """(pi - arccos rho) / pi: how often two such normals are positive together, times two."""
    return 1 - torch.arccos(rho.clamp(-1, 1)) / math.pi


def _relu_dual(rho: Tensor) -> Tensor:
    return ((1 - rho) * (1 + rho)).clamp(min=0).sqrt() / math.pi + rho * _angle_left(rho)


_SINE = math.sqrt(-math.expm1(-2) / 2)  # E[sin(z)^2] = (1 - exp(-2)) / 2

ACTIVATIONS = {
    "identity": Activation(lambda x: x, lambda rho: rho),
    "second hermite": Activation(lambda x: (x**2 - 1) / math.sqrt(2), lambda rho: rho**2),
    "relu": Activation(lambda x: math.sqrt(2) * x.clamp(min=0), _relu_dual),
    "step": Activation(lambda x: math.sqrt(2) * (x >= 0).to(x.dtype), _angle_left),
    "exponential": Activation(lambda x: torch.exp(x - 1), lambda rho: torch.exp(rho - 1)),
    "sine": Activation(lambda x: torch.sin(x) / _SINE, lambda rho: torch.sinh(rho) / math.sinh(1)),
}


def activation(name: str) -> Activation:
    """The activation of this name. Raises ValueError for one that is not in ``ACTIVATIONS``."""
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}; there are: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def hermite_coefficients(name: str, degree: int) -> NDArray[np.float64]:
    """E[s(z) h_i(z)] for the normalized Hermite polynomials h_0, ..., h_degree, by quadrature [degree + 1].

    The squares are the coefficients of the dual's power series: s^(rho) = sum_i a_i^2 rho^i.
    """
    one = activation(name)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z = np.concatenate([7 * nodes - 7, 7 * nodes + 7])  # to 14, beyond which normal densities are below 1e-43;
    weights = 7 * np.tile(weights, 2)  # in two pieces, for some activations have a kink at 0
    values = one.function(torch.from_numpy(z)).numpy() * np.exp(-(z**2) / 2) * weights
    degrees = np.arange(degree + 1)
    return eval_hermitenorm(degrees[:, None], z) @ values / np.sqrt(2 * math.pi * factorial(degrees))


@dataclass(frozen=True)
class Skeleton:
    """A computation skeleton (their definition 1): a graph without circles, with inputs and one output.

    ``inputs`` vectors come in, each on a unit sphere, and are numbered 0, ..., inputs - 1. ``nodes`` follow in an
    order in which children come first; each is the name of an activation and the numbers of its children. The last
    node is the output. Raises ValueError for a node without children, with one that comes later, with an unknown
    activation, or that leads nowhere.
    """

    inputs: int
    nodes: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self):
        if self.inputs < 1 or not self.nodes:
            raise ValueError(f"A skeleton needs inputs and nodes; there are {self.inputs} and {len(self.nodes)}.")
        used = set()
        for number, (name, children) in enumerate(self.nodes, start=self.inputs):
            activation(name)
            if not children or not all(0 <= child < number for child in children):
                raise ValueError(
                    f"Node {number} has the children {list(children)}; they must be among 0, ..., {number - 1}."
                )
            used.update(children)
        last = self.inputs + len(self.nodes) - 1
        if idle := set(range(self.inputs, last)) - used:
            raise ValueError(f"The nodes {sorted(idle)} lead nowhere: each has to be a child of a later one.")

    @property
    def depth(self) -> int:
        """Nodes on the longest way from an input to the output."""
        depths = [0] * self.inputs
        for _, children in self.nodes:
            depths.append(1 + max(depths[child] for child in children))
        return depths[-1]


def fully_connected(name: str, depth: int, inputs: int = 1) -> Skeleton:
    """Layers of one node each, the first of which sees every input. Raises ValueError for a depth below 1."""
    if depth < 1:
        raise ValueError(f"The depth is {depth}; it must be at least 1.")
    first = (name, tuple(range(inputs)))
    return Skeleton(inputs, (first, *((name, (inputs + layer,)) for layer in range(depth - 1))))


def convolutional(name: str, shape: Sequence[int], window: int, depth: int, stride: int = 1) -> Skeleton:
    """``depth`` - 1 layers of windows over a grid of inputs of this shape, then one node that sees all that is left.

    Along each axis a window takes ``window`` neighbours, or all if there are fewer; positions are not shared with
    others, and nothing is padded. Raises ValueError for sizes below 1.
    """
    if min(*shape, window, depth, stride) < 1:
        raise ValueError(f"{list(shape)=}, {window=}, {depth=} and {stride=} must all be at least 1.")
    inputs = math.prod(shape)
    grid, nodes = np.arange(inputs).reshape(shape), []
    for _ in range(depth - 1):
        wide = [min(window, side) for side in grid.shape]
        windows = np.lib.stride_tricks.sliding_window_view(grid, wide)[tuple(slice(None, None, stride) for _ in wide)]
        places = windows.shape[: grid.ndim]
        start = inputs + len(nodes)
        nodes += [(name, tuple(children.ravel().tolist())) for children in windows.reshape(-1, *wide)]
        grid = np.arange(start, start + math.prod(places)).reshape(places)
    return Skeleton(inputs, (*nodes, (name, tuple(grid.ravel().tolist()))))


def compositional_kernel(skeleton: Skeleton, x: Tensor, y: Tensor | None = None) -> Tensor:
    """The skeleton's kernel between all x and y (their definition 2), [n, m], computed a block of rows at a time.

    At an input it is the scalar product, at a node the dual activation of the mean over its children. All layers
    of a block are done while it is in the cache, and without y only one triangle is computed.

    Args:
        x: inputs [n, skeleton.inputs, d], each x[i, j] of length 1, in double precision for 1e-15.
        y: others [m, skeleton.inputs, d]; x itself by default.

    Raises:
        ValueError: another number of inputs, or vectors that are not of length 1.
    """
    _check(skeleton, x)
    if y is not None:
        _check(skeleton, y)
    other = x if y is None else y
    kernel = x.new_empty(len(x), len(other))
    parts = _input_parts(skeleton, x), _input_parts(skeleton, other)
    rows = max(1, min(64, _BLOCK // (len(other) * len(skeleton.nodes))))
    for start in range(0, len(x), rows):
        stop = start + rows
        first = start if y is None else 0  # a symmetric matrix: from the diagonal on
        kernel[start:stop, first:] = _block(skeleton, *parts, slice(start, stop), slice(first, None))
        if y is None:
            kernel[stop:, start:stop] = kernel[start:stop, stop:].T
    return kernel


def _input_parts(skeleton: Skeleton, x: Tensor) -> list[Tensor | None]:
    """For each node the inputs among its children side by side [n, d * inputs seen], or None."""
    parts = []
    for _, children in skeleton.nodes:
        seen = [child for child in children if child < skeleton.inputs]
        parts.append(x[:, seen].flatten(1) if seen else None)
    return parts


def _block(skeleton, left, right, rows, columns) -> Tensor:
    blocks: list[Tensor] = []
    for (name, children), ours, theirs in zip(skeleton.nodes, left, right, strict=True):
        total = None if ours is None else ours[rows] @ theirs[columns].T
        for child in children:
            if child >= skeleton.inputs:
                part = blocks[child - skeleton.inputs]
                total = part if total is None else total + part
        blocks.append(ACTIVATIONS[name].dual(total / len(children) if len(children) > 1 else total))
    return blocks[-1]


def random_features(skeleton: Skeleton, x: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """The last representation of a random network with this skeleton, [n, width] (their definition 3).

    Every node becomes ``width`` neurons, fully wired to their children's; weights are normal with a variance that
    gives every pre-activation the variance 1. ``features @ features.T / width`` is the network's own kernel.

    Args:
        x: inputs [n, skeleton.inputs, d], each x[i, j] of length 1.
        width: replicas of a node, r in the paper.
        generator: draws the weights, on the CPU; they then move to x's device.

    Raises ValueError as ``compositional_kernel`` does.
    """
    _check(skeleton, x)
    layers: list[Tensor] = []
    for (name, children), seen in zip(skeleton.nodes, _input_parts(skeleton, x), strict=True):
        parts = [] if seen is None else [(seen, 1.0)]
        parts += [(layers[c - skeleton.inputs], width) for c in children if c >= skeleton.inputs]
        total = 0
        for values, fan in parts:
            # In single precision, as random as in double, they are drawn three times as fast.
            weight = torch.randn(values.shape[1], width, generator=generator).to(x)
            total = total + values @ (weight / math.sqrt(fan * len(children)))
        layers.append(ACTIVATIONS[name].function(total))
    return layers[-1]


def _check(skeleton: Skeleton, x: Tensor):
    if x.ndim != 3 or x.shape[1] != skeleton.inputs:
        raise ValueError(f"x has shape {list(x.shape)}; the skeleton takes [n, {skeleton.inputs}, d].")
    lengths = torch.linalg.vector_norm(x, dim=2)
    if not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4):
        raise ValueError(
            "Every input vector x[i, j] must have length 1, and some have "
            f"{lengths.min():.3g} to {lengths.max():.3g}; divide by torch.linalg.vector_norm(x, dim=2, keepdim=True)."
        )
