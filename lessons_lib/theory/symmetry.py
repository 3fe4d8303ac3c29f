"""Which weights a layer must share to be equivariant, and which permutations it then really respects.

Ravanbakhsh, Schneider and Poczos, *Equivariance Through Parameter-Sharing* (ICML 2017, arXiv:1702.08389).

A permutation of n points is an integer array p [n] that sends point i to p[i]; a group is given by generators
[k, n], the trivial one by none ([0, n]). A group that acts on the outputs and on the inputs of a layer is given by
two such arrays with equal k: row i of both is the same group element. It moves a vector x [n] to y with
y[p[i]] = x[i]. A *structure* is an integer array ``colours`` [outputs, inputs]: entries of one colour hold one
parameter, entries of colour -1 hold zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

Permutations = NDArray[np.intp]


class SymmetryError(ValueError):
    """What was given is no permutation group, no structure, or too large to enumerate."""


# ---------------------------------------------------------------------------------------------- groups


def trivial(n: int) -> Permutations:
    """The group of the identity alone, on ``n`` points: no generators, [0, n]."""
    return np.empty((0, n), np.intp)


def cyclic(n: int) -> Permutations:
    """C_n, the rotations of ``n`` points on a circle; order n."""
    return np.roll(np.arange(n), -1)[None]


def dihedral(n: int) -> Permutations:
    """D_n, the rotations and reflections of ``n`` points on a circle; order 2n for n >= 3."""
    return np.stack([*cyclic(n), -np.arange(n) % n])


def symmetric(n: int) -> Permutations:
    """S_n, all permutations of ``n`` >= 2 points; order n!."""
    return np.stack([*cyclic(n), np.r_[1, 0, 2:n]])


def alternating(n: int) -> Permutations:
    """A_n, the even permutations of ``n`` >= 3 points; order n!/2."""
    point = np.arange(n)
    # A cycle of odd length is even: a 3-cycle, and a long cycle over all points, or all but the first.
    long = np.roll(point, -1) if n % 2 else np.r_[0, 2:n, 1]
    return np.stack([np.r_[1, 2, 0, 3:n], long])


def projective_line(p: int) -> Permutations:
    """PGL(2, p) on the projective line of a prime ``p``: x -> (ax + b)/(cx + d) on 0 .. p-1 and infinity (point p).

    Order p (p^2 - 1); it carries any three points to any three. Raises SymmetryError unless ``p`` is prime.
    """
    if p < 2 or any(p % d == 0 for d in range(2, math.isqrt(p) + 1)):
        raise SymmetryError(f"p is {p}; the projective line is built here over the integers modulo a prime.")
    x = np.arange(p)
    shift, inverse = np.r_[(x + 1) % p, p], np.r_[p, [pow(int(v), -1, p) for v in x[1:]], 0]
    scalings = [np.r_[x * a % p, p] for a in range(2, p)]
    return np.stack([shift, inverse, *scalings])


def side_by_side(first: Permutations, second: Permutations) -> Permutations:
    """The direct product on the points of ``first`` followed by those of ``second``, each moved by its own group."""
    n, m = first.shape[1], second.shape[1]
    here = [np.r_[p, n : n + m] for p in first]
    there = [np.r_[:n, n + p] for p in second]
    return _stack(here + there, n + m)


def on_grid(rows: Permutations, columns: Permutations) -> Permutations:
    """The direct product on the cells of a table: ``rows`` moves its rows, ``columns`` its columns.

    Cell (i, j) is point i * n_columns + j.
    """
    n, m = rows.shape[1], columns.shape[1]
    cells = np.arange(n * m).reshape(n, m)
    # Cell (i, j) goes to (p[i], j), or to (i, p[j]).
    return _stack([cells[p].ravel() for p in rows] + [cells[:, p].ravel() for p in columns], n * m)


def wreath(inner: Permutations, outer: Permutations) -> Permutations:
    """Blocks that ``outer`` permutes, each with a copy of ``inner`` of its own; order |inner|^blocks |outer|.

    Point j of block i is i * n_inner + j.
    """
    m, blocks = inner.shape[1], outer.shape[1]
    cells = np.arange(blocks * m).reshape(blocks, m)
    within = []
    for block in _first_points(outer):  # outer carries what moves within this block to the others of its orbit
        for p in inner:
            moved = cells.copy()
            moved[block] = cells[block, p]
            within.append(moved.ravel())
    return _stack(within + [cells[p].ravel() for p in outer], blocks * m)


def on_tuples(group: Permutations, order: int) -> Permutations:
    """The same group on ordered ``order``-tuples of its n points, repetitions included: n^order points.

    Tuple (i, j) is point i * n + j, as entries of a matrix are in memory.
    """
    n = group.shape[1]
    cells = np.arange(n**order).reshape((n,) * order)
    return _stack([cells[np.ix_(*[p] * order)].ravel() for p in group], n**order)


def on_subsets(group: Permutations, size: int) -> Permutations:
    """The same group on the subsets of ``size`` of its points, in the order of ``itertools.combinations``."""
    subsets = list(itertools.combinations(range(group.shape[1]), size))
    place = {subset: i for i, subset in enumerate(subsets)}
    images = [[place[tuple(sorted(p[list(subset)]))] for subset in subsets] for p in group]
    return _stack(images, len(subsets))


def regular(group: Permutations, limit: int = 100_000) -> Permutations:
    """The same group on its own elements, numbered as in ``elements``, by multiplication from the left.

    Point 0 is the identity. Raises SymmetryError for a group of more than ``limit`` elements.
    """
    members = elements(group, limit)
    place = {member.tobytes(): i for i, member in enumerate(members)}
    # The product g h sends i to g[h[i]].
    return _stack([[place[p[h].tobytes()] for h in members] for p in _checked(group)], len(members))


def elements(group: Permutations, limit: int = 1_000_000) -> Permutations:
    """All elements of the group, [order, n], the identity first. Raises SymmetryError for more than ``limit``."""
    group = _checked(group)
    n = group.shape[1]
    found = newest = np.arange(n)[None]
    while len(newest) and len(group):
        # Every element is the identity multiplied by generators, one after another.
        reached = np.unique(np.concatenate([p[newest] for p in group]), axis=0)
        known = {member.tobytes() for member in found}
        newest = reached[[member.tobytes() not in known for member in reached]]
        found = np.concatenate([found, newest])
        if len(found) > limit:
            raise SymmetryError(
                f"the group has more than {limit:,} elements. The structures here need its generators only; "
                "enumerate a smaller group, or raise limit."
            )
    return found


def joint(outputs: Permutations, inputs: Permutations) -> Permutations:
    """One group on outputs and inputs together, [k, N + M]: the outputs first.

    Raises SymmetryError unless both have as many generators.
    """
    outputs, inputs = _checked(outputs), _checked(inputs)
    if len(outputs) != len(inputs):
        raise SymmetryError(
            f"{len(outputs)} generators act on the outputs and {len(inputs)} on the inputs; row i of both must be "
            "the same group element (an element that moves nothing there is the identity, not left out)."
        )
    return np.concatenate([outputs, inputs + outputs.shape[1]], axis=1)


# ---------------------------------------------------------------------------------------------- designs


def orbits(group: Permutations) -> NDArray[np.intp]:
    """The orbit that each of the n points lies in, [n], numbered in the order of their first points."""
    return _first_seen(_components(_checked(group), np.shape(group)[1]))


def dense_design(outputs: Permutations, inputs: Permutations | None = None) -> NDArray[np.intp]:
    """The colours [N, M] of the dense design: the orbits of the group on pairs (output, input).

    ``outputs`` [k, N] and ``inputs`` [k, M] give the group's two actions (``inputs`` is ``outputs`` by default). The
    layer has as many parameters as there are orbits, numbered in the order of their first entries. Only the generators
    are used: k N M steps, whatever the order of the group.
    """
    inputs = outputs if inputs is None else inputs
    joint(outputs, inputs)
    outputs, inputs = _checked(outputs), _checked(inputs)
    n, m = outputs.shape[1], inputs.shape[1]
    images = ((p[:, None] * m + q).ravel() for p, q in zip(outputs, inputs, strict=True))
    return _first_seen(_components(images, n * m)).reshape(n, m)


def sparse_design(
    steps: ArrayLike,
    outputs: Permutations,
    inputs: Permutations | None = None,
    *,
    tie: Sequence[int] | None = None,
) -> NDArray[np.intp]:
    """The colours [N, M] of the sparse design; -1 where there is no weight.

    ``steps`` [s, M] are the chosen group elements a, as they move the inputs. With one point n_p of each orbit of the
    outputs and one m_q of each of the inputs, every (p, q, a) gives the colour {(g n_p, g a m_q) : g in the group}: an
    orbit of the dense design. Steps with equal numbers in ``tie`` [s] share one parameter.

    Where an action is not free the orbits of two parameters can overlap, and the weight is their sum; entries have one
    colour if and only if they have the same parameters.
    """
    inputs = outputs if inputs is None else inputs
    dense = dense_design(outputs, inputs)
    steps = _checked(steps)
    if steps.shape[1] != dense.shape[1]:
        raise SymmetryError(f"the steps move {steps.shape[1]} points and the layer has {dense.shape[1]} inputs.")
    labels = range(len(steps)) if tie is None else tie
    if len(labels) != len(steps):
        raise SymmetryError(f"tie has {len(labels)} numbers for {len(steps)} steps.")
    parameters: dict[int, frozenset] = {}
    for p, q in itertools.product(_first_points(outputs), _first_points(inputs)):
        for a, label in zip(steps, labels, strict=True):
            orbit = int(dense[p, a[q]])
            parameters[orbit] = parameters.get(orbit, frozenset()) | {(p, q, label)}
    number = {held: i for i, held in enumerate(dict.fromkeys(parameters[orbit] for orbit in sorted(parameters)))}
    colour = np.full(dense.max() + 1, -1)
    for orbit, held in parameters.items():
        colour[orbit] = number[held]
    return colour[dense]


def automorphisms(colours: ArrayLike, *, one_permutation: bool = False, limit: int = 1_000_000) -> NDArray[np.intp]:
    """Aut of a structure: every pair (p, q) of permutations with colours[p[i], q[j]] == colours[i, j] for all i, j.

    ``colours`` [N, M]; the result [count, N + M] has p in its first N columns, and q + N in the others, as ``joint``
    does. With ``one_permutation`` (N = M) only pairs with p = q count.

    The search is exhaustive: it maps output after output to every place left, and drops a partial map when no
    permutation of the inputs fits it. Raises SymmetryError when more than ``limit`` maps are alive at once.
    """
    colours = np.unique(np.asarray(colours), return_inverse=True)[1].reshape(np.shape(colours))
    n, m = colours.shape
    if one_permutation and n != m:
        raise SymmetryError(f"one permutation cannot move both {n} outputs and {m} inputs.")
    maps = np.empty((1, 0), np.intp)
    seen, moved = np.zeros(m, np.intp), np.zeros((1, m), np.intp)  # what a column's rows so far have shown, as a number
    for i in range(n):
        parent, image = np.nonzero((maps[:, :, None] != np.arange(n)).all(1))
        maps = np.concatenate([maps[parent], image[:, None]], axis=1)
        codes = np.concatenate([seen, moved[parent].ravel()]) * (colours.max() + 1)
        codes += np.concatenate([colours[i], colours[image].ravel()])
        codes = np.unique(codes, return_inverse=True)[1]  # small again, so that they never overflow
        seen, moved = codes[:m], codes[m:].reshape(-1, m)
        alive = (np.sort(moved, axis=1) == np.sort(seen)).all(1)
        if one_permutation:
            here = maps[:, : i + 1]
            alive &= (colours[image[:, None], here] == colours[i, : i + 1]).all(1)
            alive &= (colours[here, image[:, None]] == colours[: i + 1, i]).all(1)
        maps, moved = maps[alive], moved[alive]
        _refuse_more(len(maps), limit)
    if one_permutation:
        return np.concatenate([maps, maps + n], axis=1)
    return np.concatenate(_with_inputs(maps, seen, moved, limit), axis=1)


def _with_inputs(maps, seen, moved, limit):
    """Every pair of a map of the outputs with a permutation of the inputs: equal columns may change places."""
    n, m = maps.shape[1], len(seen)
    order = np.argsort(seen, kind="stable")
    same = np.split(np.arange(m), np.flatnonzero(np.diff(seen[order])) + 1)
    swaps = math.prod(math.factorial(len(columns)) for columns in same)
    _refuse_more(len(maps) * swaps, limit)
    choices = itertools.product(*(itertools.permutations(columns) for columns in same))
    within = np.array([list(itertools.chain(*choice)) for choice in choices], np.intp).reshape(swaps, m)
    inputs = np.empty((len(maps), swaps, m), np.intp)
    inputs[:, :, order] = np.argsort(moved, axis=1, kind="stable")[:, within]
    return np.repeat(maps, swaps, axis=0), inputs.reshape(-1, m) + n


def _refuse_more(count, limit):
    if count > limit:
        raise SymmetryError(
            f"{count:,} partial maps or automorphisms are more than the limit of {limit:,}. Take a smaller layer, or "
            "one of more colours, or raise limit."
        )


# ---------------------------------------------------------------------------------------------- layers


class TiedLinear(nn.Module):
    """A linear layer with channels whose weights are tied by a structure.

    Inputs [B, in_channels, M] (or [B, M] for one channel), outputs [B, out_channels, N]. Each pair of channels has one
    parameter for each of the K colours of ``colours`` [N, M]; each output channel one bias for each class of
    ``bias_classes`` [N], which have to be the orbits of the outputs for the layer to be equivariant. Starts as torch
    starts ``nn.Linear``: uniform on +-1/sqrt(weights of one output).
    """

    def __init__(self, colours: ArrayLike, bias_classes: ArrayLike, in_channels: int = 1, out_channels: int = 1):
        super().__init__()
        colours, classes = np.asarray(colours), np.asarray(bias_classes)
        if colours.ndim != 2 or classes.shape != colours.shape[:1]:
            raise SymmetryError(f"colours {colours.shape} and bias classes {classes.shape} must be [N, M] and [N].")
        used = (colours >= 0).sum(1).max()
        bound = 1 / math.sqrt(max(1, used) * in_channels)
        self.n_outputs, self.out_channels, self.in_channels = len(colours), out_channels, in_channels
        self.sparse = bool((colours < 0).any())
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, colours.max() + 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels, classes.max() + 1).uniform_(-bound, bound))
        # Plain attributes, not buffers: every member of an ensemble shares them.
        self.colours, self.classes = (torch.from_numpy(held.astype(np.int64)) for held in (colours.ravel(), classes))
        self.untied = bool((self.colours == torch.arange(colours.size)).all())

    def matrix(self) -> Tensor:
        """The weights as a matrix [out_channels N, in_channels M]."""
        full = self.weight
        if self.sparse:  # colour -1 reads the zero put last
            full = torch.cat([full, torch.zeros_like(full[..., :1])], dim=-1)
        if not self.untied:
            full = full.index_select(-1, self.colours.to(full.device) % full.shape[-1])
        full = full.unflatten(-1, (self.n_outputs, -1)).transpose(1, 2)
        return full.reshape(self.out_channels * self.n_outputs, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, out_channels, N] for inputs [B, in_channels, M]."""
        y = x.flatten(1) @ self.matrix().T
        bias = self.bias[:, self.classes.to(x.device)]
        return y.view(len(x), self.out_channels, self.n_outputs) + bias


# ---------------------------------------------------------------------------------------------- helpers


def _checked(group: ArrayLike) -> Permutations:
    group = np.asarray(group)
    if group.ndim != 2 or (len(group) and not np.issubdtype(group.dtype, np.integer)):
        raise SymmetryError(f"a group is given by permutations [k, n] of integers, not by {group.dtype} {group.shape}.")
    group = group.astype(np.intp)
    for i, p in enumerate(np.sort(group, axis=1)):
        if not (p == np.arange(len(p))).all():
            raise SymmetryError(f"row {i} is no permutation: it must hold each of 0 .. {len(p) - 1} once.")
    return group


def _stack(permutations: Sequence, n: int) -> Permutations:
    return np.asarray(permutations, np.intp).reshape(-1, n)


def _components(images: Iterable[NDArray], n: int) -> NDArray:
    """The connected component of each of n points when every point is joined to its images, arrays [n]."""
    component, count = np.arange(n), n
    for image in images:
        # Components found so far are the points of the next graph: one permutation in memory at a time.
        edges = component, component[image]
        graph = coo_array((np.ones(n, np.int8), edges), shape=(count, count))
        count, joined = connected_components(graph, directed=True, connection="weak")
        component = joined[component]
    return component


def _first_seen(labels: NDArray) -> NDArray[np.intp]:
    """The same partition, its classes numbered in the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _first_points(group: Permutations) -> list[int]:
    return np.unique(orbits(group), return_index=True)[1].tolist()
