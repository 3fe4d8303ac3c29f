"""Orbits, structures and their automorphisms, against enumeration of the groups and of all permutations."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.ensemble import Ensemble
from lessons_lib.theory import symmetry as sym

SIX = {
    "trivial": (sym.trivial(6), 1, 36),
    "C6": (sym.cyclic(6), 6, 6),
    "D6": (sym.dihedral(6), 12, 4),
    "S3 x S3": (sym.side_by_side(sym.symmetric(3), sym.symmetric(3)), 36, 6),
    "S3 wr S2": (sym.wreath(sym.symmetric(3), sym.symmetric(2)), 72, 3),
    "S2 wr S3": (sym.wreath(sym.symmetric(2), sym.symmetric(3)), 48, 3),
    "PGL(2,5)": (sym.projective_line(5), 120, 2),
    "A6": (sym.alternating(6), 360, 2),
    "S6": (sym.symmetric(6), 720, 2),
    "rows and columns": (sym.on_grid(sym.symmetric(2), sym.symmetric(3)), 12, 4),
    "edges of four": (sym.on_subsets(sym.symmetric(4), 2), 24, 3),
}


def same_partition(a, b):
    return len(set(zip(np.ravel(a), np.ravel(b), strict=True))) == len(np.unique(a)) == len(np.unique(b))


def orbits_by_enumeration(outputs, inputs):
    """The smallest image of each pair under every element of the group."""
    n, m = outputs.shape[1], inputs.shape[1]
    members = sym.elements(sym.joint(outputs, inputs))
    images = members[:, :n, None] * m + (members[:, None, n:] - n)
    return images.min(0)


@pytest.mark.parametrize("name", SIX)
def test_orders_and_parameter_counts(name):
    group, order, parameters = SIX[name]
    members = sym.elements(group)
    assert len(members) == order == len({tuple(p) for p in members})
    assert (members[0] == np.arange(6)).all()
    colours = sym.dense_design(group)
    burnside = np.mean((members == np.arange(6)).sum(1) ** 2)
    assert colours.max() + 1 == parameters == burnside
    assert same_partition(colours, orbits_by_enumeration(group, group))


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7])
def test_alternating_groups_are_the_even_permutations(n):
    members = sym.elements(sym.alternating(n))
    assert len(members) == math.factorial(n) // 2
    signs = [round(np.linalg.det(np.eye(n)[p])) for p in members]
    assert set(signs) == {1}


@pytest.mark.parametrize("p", [2, 3, 5, 7])
def test_projective_line_is_sharply_three_transitive(p):
    members = sym.elements(sym.projective_line(p))
    assert len(members) == p * (p * p - 1)
    assert len({tuple(member[:3]) for member in members}) == len(members)


def test_dense_design_between_different_actions():
    """The rotations of a cube's faces, on its faces and on its vertices: two orbits of pairs (near and far)."""
    corners = np.array(list(itertools.product([0, 1], repeat=3)))
    place = {tuple(c): i for i, c in enumerate(corners)}
    # Faces: (axis, side). A quarter turn about z, and one about x.
    turns = [lambda c: (c[1], 1 - c[0], c[2]), lambda c: (c[0], c[2], 1 - c[1])]
    on_corners = np.array([[place[turn(c)] for c in corners] for turn in turns])
    faces = [frozenset(i for i, c in enumerate(corners) if c[axis] == side) for axis in range(3) for side in (0, 1)]
    on_faces = np.array([[faces.index(frozenset(p[list(face)])) for face in faces] for p in on_corners])
    colours = sym.dense_design(on_faces, on_corners)
    belongs = np.array([[i in face for i in range(8)] for face in faces])
    assert len(sym.elements(sym.joint(on_faces, on_corners))) == 24
    assert same_partition(colours, belongs)


def test_orbits_are_numbered_by_their_first_points():
    assert sym.orbits(sym.side_by_side(sym.trivial(2), sym.cyclic(3))).tolist() == [0, 1, 2, 2, 2]
    assert sym.dense_design(sym.cyclic(5))[0].tolist() == [0, 1, 2, 3, 4]


def test_repeated_generators_do_no_harm():
    twice = np.repeat(sym.dihedral(6), 3, axis=0)
    assert (sym.dense_design(twice) == sym.dense_design(sym.dihedral(6))).all()


def test_large_groups_need_their_generators_only():
    n = 600
    assert (sym.dense_design(sym.symmetric(n)) == 1 - np.eye(n)).all()
    nested = sym.dense_design(sym.wreath(sym.symmetric(20), sym.symmetric(30)))
    block = np.arange(n) // 20
    assert (nested == np.where(np.eye(n), 0, 2 - (block[:, None] == block))).all()


def automorphisms_by_enumeration(colours, one_permutation=False):
    n, m = colours.shape
    pairs = itertools.product(itertools.permutations(range(n)), itertools.permutations(range(m)))
    if one_permutation:
        pairs = ((p, p) for p in itertools.permutations(range(n)))
    return {(*p, *(j + n for j in q)) for p, q in pairs if (colours[np.ix_(p, q)] == colours).all()}


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize("one_permutation", [False, True])
def test_automorphisms_of_random_structures(shape, one_permutation):
    if one_permutation and shape[0] != shape[1]:
        with pytest.raises(sym.SymmetryError, match="one permutation cannot"):
            sym.automorphisms(np.zeros(shape, int), one_permutation=True)
        return
    rng = np.random.default_rng(0)
    sizes = set()
    for colours_used in (1, 2, 2, 2, 3, 9):
        colours = rng.integers(-1, colours_used - 1, shape)
        found = sym.automorphisms(colours, one_permutation=one_permutation)
        assert {tuple(pair) for pair in found} == automorphisms_by_enumeration(colours, one_permutation)
        assert len({tuple(pair) for pair in found}) == len(found)
        sizes.add(len(found))
    assert len(sizes) > 1


@pytest.mark.parametrize("name", SIX)
def test_dense_designs_and_their_hidden_symmetries(name):
    group, order, _ = SIX[name]
    found = {tuple(pair) for pair in sym.automorphisms(sym.dense_design(group))}
    assert {tuple(pair) for pair in sym.elements(sym.joint(group, group))} <= found
    # Doubly transitive groups become S6. On the edges of four points, opposite edges may also change places alone.
    assert len(found) == {"PGL(2,5)": 720, "A6": 720, "edges of four": 48}.get(name, order)


@pytest.mark.parametrize("group", [sym.cyclic(6), sym.symmetric(3), sym.dihedral(4), sym.alternating(4)])
def test_free_actions_are_unique(group):
    itself = sym.regular(group)
    n = itself.shape[1]
    assert (sym.elements(itself)[1:] != np.arange(n)).all()  # only the identity fixes a point
    assert len(sym.automorphisms(sym.dense_design(itself))) == n
    both = sym.joint(itself, group)
    assert len(sym.automorphisms(sym.dense_design(itself, both))) == n


@pytest.mark.parametrize(
    ("taps", "one", "two"),
    [([1], 6, 720), ([0, 1], 6, 6), ([1, -1], 6, 18), ([0, 1, -1], 6, 6), ([2], 18, 720), ([3], 48, 720)],
)
def test_sparse_designs_of_six_rotations(taps, one, two):
    turn = sym.cyclic(6)
    colours = sym.sparse_design([(np.arange(6) + tap) % 6 for tap in taps], turn)
    n = np.arange(6)
    expected = np.full((6, 6), -1)
    for k, tap in enumerate(sorted(taps, key=lambda tap: tap % 6)):
        expected[n, (n + tap) % 6] = k
    assert same_partition(colours, expected) and ((colours < 0) == (expected < 0)).all()
    assert len(sym.automorphisms(colours, one_permutation=True)) == one
    assert len(sym.automorphisms(colours)) == two


def test_tied_taps_add_reflections():
    steps = [np.arange(6), sym.cyclic(6)[0], np.roll(np.arange(6), 1)]
    colours = sym.sparse_design(steps, sym.cyclic(6), tie=[0, 1, 1])
    assert colours.max() == 1 and len(sym.automorphisms(colours)) == 12


def test_overlapping_parameters_have_a_colour_of_their_own():
    """S3 on three points: the identity and the turn, tied, cover all pairs; the swap alone covers the unequal ones."""
    turn, swap = sym.symmetric(3)
    both = sym.sparse_design([np.arange(3), turn, swap], sym.symmetric(3), tie=[0, 0, 1])
    assert (both == 1 - np.eye(3)).all()  # w0 on the diagonal, w0 + w1 off it


def test_pairs_of_pairs_have_fifteen_orbits_and_reveal_the_alternating_group():
    assert sym.dense_design(sym.on_tuples(sym.symmetric(4), 2)).max() + 1 == 15  # partitions of four things
    to_pairs = [
        sym.dense_design(sym.on_tuples(group, 2), group).max() + 1 for group in (sym.symmetric(4), sym.alternating(4))
    ]
    assert to_pairs == [5, 6]


@pytest.mark.parametrize("sparse", [False, True])
def test_tied_layer_is_equivariant_and_starts_as_linear_layers_do(sparse):
    group = sym.dihedral(5)
    steps = np.stack([np.arange(5), sym.cyclic(5)[0]])
    colours = sym.sparse_design(steps, group) if sparse else sym.dense_design(group)
    layer = sym.TiedLinear(colours, sym.orbits(group), 3, 4).double()
    assert layer.weight.shape == (4, 3, 2 if sparse else 3) and layer.bias.shape == (4, 1)
    x = torch.randn(7, 3, 5, dtype=torch.float64)
    for p in group:
        undo = np.argsort(p)
        assert torch.allclose(layer(x[..., undo]), layer(x)[..., undo], atol=1e-12)
    shuffled = torch.tensor([1, 0, 2, 3, 4])
    assert not torch.allclose(layer(x[..., shuffled]), layer(x)[..., shuffled], atol=1e-3)
    assert layer.weight.abs().max() <= 1 / math.sqrt(3 * (3 if sparse else 5))


def test_untied_layer_is_a_linear_layer():
    nothing = sym.trivial(4)
    layer = sym.TiedLinear(sym.dense_design(sym.trivial(3), nothing), sym.orbits(sym.trivial(3)), 2, 5)
    plain = nn.Linear(8, 15)
    plain.weight.data, plain.bias.data = layer.matrix().detach(), layer.bias.detach().flatten()
    x = torch.randn(6, 2, 4)
    assert torch.allclose(layer(x).flatten(1), plain(x.flatten(1)), atol=1e-6)


def test_tied_layers_run_as_an_ensemble():
    group = sym.cyclic(5)

    def build():
        return nn.Sequential(nn.Flatten(), sym.TiedLinear(sym.dense_design(group), sym.orbits(group), 1, 2))

    ensemble, x = Ensemble.from_seeds(build, [1, 2, 3]), torch.randn(3, 4, 1, 5)
    together = ensemble(x)
    assert together.shape == (3, 4, 2, 5)
    for k in range(3):
        assert torch.allclose(together[k], ensemble.member(k)(x[k]), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sym.dense_design(np.array([[0, 1, 1]])), "row 0 is no permutation"),
        (lambda: sym.dense_design(np.array([0, 1, 2])), r"permutations \[k, n\]"),
        (lambda: sym.dense_design(sym.dihedral(4), sym.cyclic(4)), "2 generators act on the outputs and 1"),
        (lambda: sym.projective_line(6), "p is 6"),
        (lambda: sym.elements(sym.symmetric(8), limit=1000), "more than 1,000 elements"),
        (lambda: sym.automorphisms(np.zeros((6, 6), int), limit=1000), "more than the limit of 1,000"),
        (lambda: sym.sparse_design(sym.cyclic(4), sym.cyclic(5)), "steps move 4 points"),
        (lambda: sym.sparse_design(sym.cyclic(5), sym.cyclic(5), tie=[0, 1]), "2 numbers for 1 steps"),
        (lambda: sym.TiedLinear(np.zeros((2, 3), int), np.zeros(3, int)), "bias classes"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(sym.SymmetryError, match=says):
        call()
