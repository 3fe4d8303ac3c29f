"""How far a network stretches a path through its inputs, and how often it bends it.

Raghu, Poole, Kleinberg, Ganguli and Sohl-Dickstein, *On the expressive power of deep neural networks* (ICML 2017,
arXiv:1606.05336). A path x(t) becomes z_d(t) in layer d; here z_0 = x, and z_d is what enters the weights of
layer d + 1, so that the last z is what the readout sees. Measured are the length of z_d, the integral of
|dz_d/dt|; the transitions, at which a neuron passes from one linear piece of its activation to another; and the
activation patterns, one for each region on which the network is linear.

``lengths`` integrates the speed in any network, many members at once. ``trace``, ``dichotomies`` and ``regions``
take networks of linear layers, ReLU and hard tanh. Those are linear between transitions, so every transition on
a polygon, and every region of a plane, is computed instead of looked for, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lessons_lib.ensemble import Ensemble

_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_SAME = 1e-12  # of a piece's length: transitions closer than this are one bend


# ------------------------------------------------------------------------------------- lengths, any network


def circle(x0: Tensor, x1: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Points cos(t) x0 + sin(t) x1 and velocities -sin(t) x0 + cos(t) x1 at n even t in [0, 2 pi).

    ``x0`` and ``x1`` [K, ...], a pair a member; both results [K, n, ...]. Raises ValueError for other shapes.
    """
    if x0.shape != x1.shape or x0.dim() < 2:
        raise ValueError(f"circles go through pairs of inputs, [K, ...] each; got {list(x0.shape)}, {list(x1.shape)}.")
    t = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    cos, sin = (f(t).to(x0).view(-1, *[1] * (x0.dim() - 1)) for f in (torch.cos, torch.sin))
    x0, x1 = x0.unsqueeze(1), x1.unsqueeze(1)
    return cos * x0 + sin * x1, cos * x1 - sin * x0


def closed_length(points: Tensor) -> Tensor:
    """The length [...] of the closed polygon through ``points`` [..., n, d].

    As the length of a curve through these points it is too small, by much where the curve turns between them.
    """
    return (points.roll(-1, -2) - points).norm(dim=-1).sum(-1)


def layers(net: Ensemble, x: Tensor) -> list[Tensor]:
    """What enters each layer with weights: z_0, ..., z_D, [K, n, numbers] each, for inputs ``x`` [K, n, ...].

    The network is an ``nn.Sequential``.
    """
    entering, z = [], x
    for child, after in zip(net.template, net.activations(x), strict=True):
        if isinstance(child, _WEIGHTS):
            entering.append(z.flatten(2))
        z = after
    return entering


@torch.no_grad()
def speeds(net: Ensemble, x: Tensor, dx: Tensor) -> Tensor:
    """|dz_d/dt| [K, D + 1, n] at points ``x`` passed with velocities ``dx``, both [K, n, ...]."""
    _, moved = torch.func.jvp(lambda inputs: tuple(layers(net, inputs)), (x,), (dx,))
    return torch.stack([z.norm(dim=-1) for z in moved], dim=1)


def lengths(net: Ensemble, x0: Tensor, x1: Tensor, n: int = 1000) -> Tensor:
    """Lengths [K, D + 1] of z_0, ..., z_D along the circle through ``x0`` and ``x1`` [K, ...].

    The mean of the speed at ``n`` points, times 2 pi. Unlike a sum of chords it does not need the curve to be
    resolved: with few points it scatters, but does not shrink.
    """
    return 2 * torch.pi * speeds(net, *circle(x0, x1, n)).mean(-1)


# ---------------------------------------------------------------------------- exactly, piecewise linear nets


@dataclass(frozen=True)
class _Affine:
    weight: NDArray
    bias: NDArray

    def __call__(self, z):
        return z @ self.weight.T + self.bias


@dataclass(frozen=True)
class _Bent:
    """An activation: ``slopes[i]`` and ``offsets[i]`` below kink i, the last ones above the last kink."""

    kinks: tuple[float, ...]
    slopes: NDArray
    offsets: NDArray
    apply: Callable[[NDArray], NDArray]

    def __call__(self, h):
        return self.apply(h)

    def state(self, h: NDArray) -> NDArray:
        """How many kinks lie below ``h``."""
        return sum((h > kink).astype(np.int8) for kink in self.kinks)


def _read(net: nn.Sequential) -> list[_Affine | _Bent]:
    """The layers of ``net`` in float64."""
    read = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().cpu().double().numpy()
            bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().double().numpy()
            read.append(_Affine(weight, bias))
        elif isinstance(layer, nn.ReLU):
            read.append(_Bent((0.0,), np.array([0.0, 1.0]), np.zeros(2), lambda h: np.maximum(h, 0)))
        elif isinstance(layer, nn.Hardtanh):
            low, high = layer.min_val, layer.max_val
            ends = np.array([low, 0.0, high])
            clip = lambda h, low=low, high=high: np.clip(h, low, high)  # noqa: E731
            read.append(_Bent((low, high), np.array([0.0, 1.0, 0.0]), ends, clip))
        elif not isinstance(layer, nn.Flatten | nn.Identity):
            raise ValueError(
                f"a path can be traced exactly through nn.Linear, nn.ReLU and nn.Hardtanh; this network has a "
                f"{type(layer).__name__}. lengths() takes any network."
            )
    return read


@dataclass(frozen=True)
class Trace:
    """A polygon's way through a piecewise linear network.

    Attributes:
        t: where the path bends, in any layer or at a vertex, [P + 1]; t = i is vertex i.
        x: the points of the path there, [P + 1, inputs].
        outputs: the network's outputs there, [P + 1, outputs]; linear in between.
        lengths: exact lengths of z_0, ..., z_D, [D + 1].
        transitions: how often each neuron changes its linear piece, [width] for each activation layer.
    """

    t: NDArray[np.float64]
    x: NDArray[np.float64]
    outputs: NDArray[np.float64]
    lengths: NDArray[np.float64]
    transitions: list[NDArray[np.int64]]

    @property
    def middles(self) -> NDArray[np.float64]:
        """A point inside each of the P linear pieces, [P, inputs]."""
        return (self.x[:-1] + self.x[1:]) / 2


def trace(net: nn.Sequential, vertices: ArrayLike) -> Trace:
    """Follow the polygon through ``vertices`` [m, inputs]; it is closed if the last vertex is the first.

    Layer by layer: between known bends every pre-activation is linear in t, so a neuron's transition lies where
    a straight line meets a kink of the activation, and is one more bend to the layers above. A value that touches
    a kink and turns back makes none. Raises ValueError for a layer other than nn.Linear, nn.ReLU, nn.Hardtanh and
    nn.Flatten, and for fewer than two vertices.
    """
    z = np.asarray(vertices, dtype=np.float64)
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"a path is [2 or more vertices, inputs]; got {list(z.shape)}.")
    t, x = np.arange(len(z), dtype=np.float64), z
    lengths, transitions = [], []
    for layer in _read(net):
        if isinstance(layer, _Affine):
            lengths.append(np.linalg.norm(np.diff(z, axis=0), axis=1).sum())
        else:
            rows, shares, counts = _crossings(z, layer.kinks)
            transitions.append(counts)
            t, x, z = (_with_rows(values, rows, shares) for values in (t, x, z))
        z = layer(z)
    return Trace(t, x, z, np.array(lengths), transitions)


def _crossings(h: NDArray, kinks: tuple[float, ...]) -> tuple[NDArray, NDArray, NDArray]:
    """Where the columns of ``h`` [m, width], linear between rows, cross the kinks.

    Gives the rows before, [c] in order; how much of the way to the next row, in (0, 1), [c]; and crossings a
    column, [width].
    """
    found, counts = [], np.zeros(h.shape[1], dtype=np.int64)
    for kink in kinks:
        above = h - kink
        rows, columns = np.nonzero(above[:-1] * above[1:] < 0)
        before, after = above[rows, columns], above[rows + 1, columns]
        found.append((rows, before / (before - after)))
        counts += np.bincount(columns, minlength=h.shape[1])
        for column in np.flatnonzero((above[1:-1] == 0).any(0)):  # through values exactly on the kink
            sure = np.flatnonzero(above[:, column])
            turned = np.diff(np.sign(above[sure, column])) != 0
            counts[column] += np.sum(turned & (np.diff(sure) > 1))
    rows, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((shares, rows))
    rows, shares = rows[order], shares[order]
    if len(rows):
        again = (np.diff(rows) == 0) & (np.diff(shares) < _SAME)
        rows, shares = rows[np.r_[True, ~again]], shares[np.r_[True, ~again]]
    return rows, shares, counts


def _with_rows(values: NDArray, rows: NDArray, shares: NDArray) -> NDArray:
    """``values`` [m, ...] with new rows between old ones, by linear interpolation."""
    shares = shares.reshape(-1, *[1] * (values.ndim - 1))
    between = values[rows] + shares * (values[rows + 1] - values[rows])
    return np.insert(values, rows + 1, between, axis=0)


def patterns(net: nn.Sequential, x: ArrayLike) -> NDArray[np.int8]:
    """Activation patterns [n, neurons] of inputs ``x`` [n, inputs]: which linear piece each neuron is on, from 0."""
    z, states = np.asarray(x, dtype=np.float64), []
    for layer in _read(net):
        if isinstance(layer, _Bent):
            states.append(layer.state(z))
        z = layer(z)
    return np.concatenate(states, axis=1)


def dichotomies(rest: nn.Sequential, z: ArrayLike, w0: ArrayLike, w1: ArrayLike, n: int = 64) -> int:
    """How many labelings of s points a network gives while one of its layers turns.

    ``rest`` is the network from that layer's activation on, with one output, whose sign is a point's label. ``z``
    [s, k] are the points as they enter the layer (s at most 62), whose weights cos(t) w0 + sin(t) w1, both
    [width, k], turn once round, in ``n`` straight steps. Counted between the exact zeros of the outputs.
    """
    z, w0, w1 = (np.asarray(values, dtype=np.float64) for values in (z, w0, w1))
    if len(z) > 62:
        raise ValueError(f"{len(z)} points; their labels must fit 62 bits.")
    angles = 2 * np.pi * np.arange(n + 1)[:, None] / n
    times, bits, first = [], [], 0
    for point, (h0, h1) in enumerate(zip(z @ w0.T, z @ w1.T, strict=True)):
        path = trace(rest, np.cos(angles) * h0 + np.sin(angles) * h1)
        rows, shares, _ = _crossings(path.outputs, (0.0,))
        times.append(path.t[rows] + shares * (path.t[rows + 1] - path.t[rows]))
        bits.append(np.full(len(rows), 1 << point))
        first |= int(path.outputs[0, 0] > 0) << point
    times, bits = np.concatenate(times), np.concatenate(bits)
    order = np.argsort(times, kind="stable")
    labelings = np.bitwise_xor.accumulate(np.r_[first, bits[order]])
    lasting = np.r_[np.diff(times[order], prepend=-1) > _SAME, True]  # labels that change at one time change together
    return len(np.unique(labelings[lasting]))


@dataclass(frozen=True)
class Regions:
    """The linear regions of a network on two inputs.

    Attributes:
        polygons: each region's corners, [v, 2], in order around it.
        borders: the pieces of border that each activation layer draws, [n, 2 ends, 2].
    """

    polygons: list[NDArray[np.float64]]
    borders: list[NDArray[np.float64]]


def regions(net: nn.Sequential, corners: ArrayLike) -> Regions:
    """All linear regions of ``net``, which has two inputs, in the convex polygon with ``corners`` [v, 2].

    On a region of the layers below, a neuron's pre-activation is affine, so its kinks cut the polygon along straight
    lines (Theorem 3 of the paper). Raises ValueError for other networks or corners.
    """
    corners = np.asarray(corners, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError(f"corners are [3 or more, 2]; got {list(corners.shape)}.")
    pieces = [(corners, np.eye(2), np.zeros(2))]  # polygon, and z = matrix @ x + shift on it
    borders = []
    for layer in _read(net):
        if isinstance(layer, _Affine):
            if layer.weight.shape[1] != len(pieces[0][2]):
                raise ValueError(f"the network has {layer.weight.shape[1]} inputs; regions are drawn for two.")
            pieces = [(polygon, layer.weight @ matrix, layer(shift)) for polygon, matrix, shift in pieces]
            continue
        cut, drawn = [], []
        for polygon, matrix, shift in pieces:
            for part in _cut_all(polygon, matrix, shift, layer.kinks, drawn):
                state = layer.state(matrix @ part.mean(0) + shift)
                slope = layer.slopes[state]
                cut.append((part, slope[:, None] * matrix, slope * shift + layer.offsets[state]))
        pieces = cut
        borders.append(np.array(drawn).reshape(-1, 2, 2))
    return Regions([polygon for polygon, _, _ in pieces], borders)


def _cut_all(polygon, matrix, shift, kinks, drawn):
    """The parts into which the lines matrix @ x + shift = kink cut a convex polygon; new edges go to ``drawn``."""
    parts = [polygon]
    h = polygon @ matrix.T + shift
    for kink in kinks:
        for neuron in np.flatnonzero((h.min(0) < kink) & (kink < h.max(0))):
            parts = [new for part in parts for new in _cut(part, part @ matrix[neuron] + shift[neuron] - kink, drawn)]
    return parts


def _cut(polygon, values, drawn):
    """A convex polygon's two parts on either side of the zeros of an affine function, ``values`` at its corners."""
    tiny = 1e-9 * np.abs(values).max()
    if values.min() > -tiny or values.max() < tiny:
        return [polygon]
    sides, ends = ([], []), []
    for i in range(len(polygon)):
        here, there = values[i - 1], values[i]
        if here * there < 0:
            point = polygon[i - 1] + here / (here - there) * (polygon[i] - polygon[i - 1])
            ends.append(point)
            for side in sides:
                side.append(point)
        if there == 0:
            ends.append(polygon[i])
        for side, inside in zip(sides, (there >= 0, there <= 0), strict=True):
            if inside:
                side.append(polygon[i])
    drawn.append(ends)
    return [np.array(side) for side in sides]
