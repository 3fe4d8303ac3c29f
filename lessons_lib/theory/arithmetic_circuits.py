"""Convolutional arithmetic circuits: networks of linear maps and products, and the tensor of all their values.

Cohen, Sharir and Shashua, *On the Expressive Power of Deep Learning: A Tensor Analysis* (COLT 2016), with overlapping
windows as in Sharir and Shashua, *On the Expressive Power of Overlapping Architectures of Deep Learning* (ICLR 2018,
arXiv:1703.02065), and any pooling geometry as in Cohen and Shashua, *Inductive Bias of Deep Convolutional Networks
through Pooling Geometry* (ICLR 2017, arXiv:1605.06743).

An input is N patches, each of which shows one of M templates. Layers take products of linear forms over windows,

    y_d(p) = prod_j <w_{d, j}, x(child_j(p))>,

and the output is a linear form of the last layer's channels. Weights may be integers modulo a prime: then values are
exact, and so is everything computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIME = 2_147_483_629  # the largest below 2^31 but one: a product of two residues fits into 63 bits

_ABSENT = -1


@dataclass(frozen=True)
class Layer:
    """Products of linear forms over windows.

    ``children`` [positions, window] numbers the positions of the layer below that each window sees, -1 where it
    reaches beyond the edge (that factor is left out). ``channels`` are those it gives. With ``tied`` all places of a
    window have the same weights, as when a 1 x 1 convolution is followed by product pooling; without, each has its
    own. With ``shared`` all positions have the same weights.
    """

    children: NDArray[np.int64]
    channels: int
    tied: bool = False
    shared: bool = True


def windows(shape: Sequence[int], size: int, stride: int) -> NDArray[np.int64]:
    """Children [positions, size^dimensions] of windows over a line or a grid, one from every ``stride``-th place on.

    Windows that reach beyond the far edge are cut off there, so that stride 1 keeps the number of positions.
    Raises ValueError for sizes below 1.
    """
    if min(*shape, size, stride) < 1:
        raise ValueError(f"{list(shape)=}, {size=} and {stride=} must all be at least 1.")
    grid = np.arange(math.prod(shape)).reshape(shape)
    padded = np.pad(grid, [(0, size - 1)] * len(shape), constant_values=_ABSENT)
    views = np.lib.stride_tricks.sliding_window_view(padded, (size,) * len(shape))
    views = views[tuple(slice(None, None, stride) for _ in shape)]
    return views.reshape(-1, size ** len(shape))


def mirror_windows(side: int) -> NDArray[np.int64]:
    """Children [side^2 / 4, 4] that pool each pixel with its reflections across both axes (Cohen and Shashua, Fig. 2).

    The positions that remain are the top left quarter, which can be pooled in the same way. Raises ValueError for a
    side that is odd.
    """
    if side < 2 or side % 2:
        raise ValueError(f"The side is {side}; only an even one has a mirror image for each pixel.")
    grid = np.arange(side * side).reshape(side, side)
    half = side // 2
    parts = [part[:half, :half] for part in (grid, grid[:, ::-1], grid[::-1], grid[::-1, ::-1])]
    return np.stack([part.ravel() for part in parts], axis=1)


@dataclass(frozen=True)
class Circuit:
    """Layers over ``patches`` positions, each showing one of ``templates``. Raises ValueError where they do not fit."""

    patches: int
    templates: int
    layers: tuple[Layer, ...]

    def __post_init__(self):
        below = self.patches
        for number, layer in enumerate(self.layers):
            if layer.children.ndim != 2 or layer.children.max() >= below or layer.children.min() < _ABSENT:
                raise ValueError(f"Layer {number} has children beyond the {below} positions below it.")
            if (layer.children == _ABSENT).all(1).any():
                raise ValueError(f"Layer {number} has a window without children.")
            below = len(layer.children)
        if below != 1:
            raise ValueError(f"The last layer has {below} positions; the output needs one.")

    def shapes(self) -> list[tuple[int, ...]]:
        """Of each layer's weights, [positions or 1, window or 1, channels, channels below]; last the output's."""
        below, found = self.templates, []
        for layer in self.layers:
            places, window = layer.children.shape
            found.append((1 if layer.shared else places, 1 if layer.tied else window, layer.channels, below))
            below = layer.channels
        return [*found, (below,)]

    def parameters(self) -> int:
        """How many weights there are."""
        return sum(math.prod(shape) for shape in self.shapes())

    def random_weights(self, generator: np.random.Generator, prime: int | None = PRIME) -> list[NDArray]:
        """Residues modulo ``prime``, uniform; standard normal numbers if it is None."""
        if prime is None:
            return [generator.standard_normal(shape) for shape in self.shapes()]
        return [generator.integers(prime, size=shape) for shape in self.shapes()]

    def grid_tensor(self, weights: Sequence[NDArray], prime: int | None = PRIME) -> NDArray:
        """The circuit's value on every input, [templates] * patches (their grid tensor).

        One-hot templates, which is no loss: linearly independent representations only multiply each axis by an
        invertible matrix. Exact modulo ``prime``, below 2^31; in floating point if it is None. Raises ValueError for
        weights of other shapes.
        """
        if [np.shape(part) for part in weights] != self.shapes():
            raise ValueError(f"weights have shapes {[np.shape(part) for part in weights]}; expected {self.shapes()}.")
        # Values keep one axis a patch, of length 1 for the patches that a position does not see: those are not
        # computed over and over, and the axes come together when positions are multiplied.
        # Linear forms of a one-hot vector are columns of the weights: no arithmetic in the first layer's maps.
        values: list[NDArray] | None = None
        for layer, weight in zip(self.layers, weights, strict=False):
            places, window = layer.children.shape
            full = np.broadcast_to(weight, (places, window, *weight.shape[2:]))
            made = []
            for place, children in enumerate(layer.children):
                product = None
                for offset, child in enumerate(children):
                    if child == _ABSENT:
                        continue
                    matrix = full[place, offset]
                    if values is None:
                        axes = [self.templates if patch == child else 1 for patch in range(self.patches)]
                        factor = matrix.reshape(-1, *axes)
                    else:
                        factor = _times(matrix, values[child], prime)
                    product = factor if product is None else _reduce(product * factor, prime)
                made.append(product)
            values = made
        output = _times(weights[-1][None], values[0], prime)[0]
        # A patch that nothing sees makes no difference, but has its axis.
        return np.broadcast_to(output, (self.templates,) * self.patches).copy()


def _reduce(values: NDArray, prime: int | None) -> NDArray:
    return values if prime is None else values % prime


def _times(matrix: NDArray, values: NDArray, prime: int | None) -> NDArray:
    """matrix [a, b] times values [b, ...]; modulo the prime each product is reduced before it is added."""
    columns, shape = values.reshape(len(values), -1), (len(matrix), *values.shape[1:])
    if prime is None:
        return (matrix @ columns).reshape(shape)
    total = np.zeros((len(matrix), columns.shape[1]), dtype=np.int64)
    for column, row in zip(matrix.T, columns, strict=True):
        total += column[:, None] * row % prime
    return (total % prime).reshape(shape)
