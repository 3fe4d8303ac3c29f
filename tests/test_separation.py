"""Grid tensors against circuits evaluated input by input, ranks against rational arithmetic and closed forms."""

import itertools

import numpy as np
import pytest
import sympy

from lessons_lib.measures.separation import matricize, rank_modulo, separable_share, separation_rank
from lessons_lib.theory.arithmetic_circuits import PRIME, Circuit, Layer, mirror_windows, windows


def rng(seed=0):
    return np.random.default_rng(seed)


def line(length, first, channels, templates, **options):
    """A first layer of windows with stride 1, then pairs up to the root."""
    layers, positions = [Layer(windows((length,), first, 1), channels, **options)], length
    while positions > 1:
        layers.append(Layer(windows((positions,), 2, 2), channels, **options))
        positions = len(layers[-1].children)
    return Circuit(length, templates, tuple(layers))


def value(circuit, weights, shown):
    """The circuit on one input, in Python's own integers."""
    below = [[int(t == s) for t in range(circuit.templates)] for s in shown]
    for layer, weight in zip(circuit.layers, weights, strict=False):
        above = []
        for place, children in enumerate(layer.children):
            vector = []
            for d in range(layer.channels):
                product = 1
                for offset, child in enumerate(children):
                    if child >= 0:
                        form = weight[0 if layer.shared else place, 0 if layer.tied else offset, d]
                        product *= sum(int(w) * x for w, x in zip(form, below[child], strict=True))
                vector.append(product)
            above.append(vector)
        below = above
    return sum(int(w) * x for w, x in zip(weights[-1], below[0], strict=True))


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"shared": False}, {"tied": True, "shared": False}])
def test_grid_tensor_is_the_circuit_on_every_input(options):
    circuit = line(4, 2, 3, 2, **options)
    weights = circuit.random_weights(rng(1))
    tensor = circuit.grid_tensor(weights)
    for shown in itertools.product(range(2), repeat=4):
        assert tensor[shown] == value(circuit, weights, shown) % PRIME


def test_a_patch_that_nothing_sees_has_its_axis():
    circuit = Circuit(3, 2, (Layer(np.array([[0, 2]]), 2),))
    weights = circuit.random_weights(rng(3))
    tensor = circuit.grid_tensor(weights)
    for shown in itertools.product(range(2), repeat=3):
        assert tensor[shown] == value(circuit, weights, shown) % PRIME


def test_floating_point_agrees_with_small_integers():
    circuit = line(4, 3, 2, 3)
    weights = [rng(2).integers(-2, 3, shape) for shape in circuit.shapes()]
    exact = circuit.grid_tensor([part % PRIME for part in weights])
    real = circuit.grid_tensor([part.astype(float) for part in weights], prime=None)
    assert np.array_equal(real.astype(np.int64) % PRIME, exact)


def test_windows_by_hand():
    assert windows((4,), 2, 1).tolist() == [[0, 1], [1, 2], [2, 3], [3, -1]]
    assert windows((4,), 2, 2).tolist() == [[0, 1], [2, 3]]
    assert windows((2, 4), 2, 2).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert mirror_windows(4).tolist() == [[0, 3, 12, 15], [1, 2, 13, 14], [4, 7, 8, 11], [5, 6, 9, 10]]


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_rank_of_known_and_rational_matrices(rank):
    left, right = rng(rank).integers(-9, 9, (9, rank)), rng(rank + 1).integers(-9, 9, (rank, 12))
    matrix = left @ right
    assert rank_modulo(matrix) == rank_modulo(matrix.T) == sympy.Matrix(matrix.tolist()).rank() == rank


def test_rank_knows_that_it_works_modulo_a_prime():
    assert rank_modulo(np.array([[1, 1], [1, 8]]), prime=7) == 1
    assert rank_modulo(np.zeros((3, 4), dtype=int)) == 0


def test_matricize_puts_the_part_into_rows():
    tensor = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(matricize(tensor, [0, 2])[1 * 4 + 3], tensor[1, :, 3])
    assert np.array_equal(matricize(tensor, [2])[3], tensor[:, :, 3].ravel())


def test_a_product_is_separable():
    tensor = np.einsum("a,b,c->abc", *(rng(3).integers(1, 9, (3, 2))))
    assert separation_rank(tensor, [0, 2]) == 1
    np.testing.assert_allclose(separable_share(tensor.astype(float), [0])[0], 1)


def test_numerical_rank_agrees_where_floating_point_can_tell():
    circuit = line(8, 2, 2, 2)
    real = separable_share(circuit.grid_tensor(circuit.random_weights(rng(4), None), None), range(4))
    exact = separation_rank(circuit.grid_tensor(circuit.random_weights(rng(4))), range(4))
    assert (real > 1e-12).sum() == exact == 4


@pytest.mark.parametrize(
    ("window", "channels", "templates"), [(1, 2, 2), (2, 2, 2), (3, 2, 2), (2, 3, 2), (3, 3, 3), (2, 2, 3)]
)
def test_left_right_rank_of_overlapping_windows(window, channels, templates):
    """min(M, D)^(H/2) caps D min(M, D)^(R-1): every window across the border multiplies by min(M, D)."""
    circuit, least = line(8, window, channels, templates), min(templates, channels)
    found = separation_rank(circuit.grid_tensor(circuit.random_weights(rng(5))), range(4))
    assert found == min(least**4, channels * least ** (window - 1))


def test_equal_weights_in_a_window_cap_the_rank_of_symmetric_partitions():
    """A 4 x 4 square, left|right: r under 2 x 2 pooling; under mirror pooling 3^4, or 4^4 with free weights."""
    left = [pixel for pixel in range(16) if pixel % 4 < 2]

    def rank(first, tied):
        circuit = Circuit(16, 2, (Layer(first, 4, tied=tied), Layer(np.arange(4)[None], 4, tied=tied)))
        return separation_rank(circuit.grid_tensor(circuit.random_weights(rng(6))), left)

    assert rank(windows((4, 4), 2, 2), tied=True) == 4
    assert rank(mirror_windows(4), tied=True) == 81
    assert rank(mirror_windows(4), tied=False) == 256


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: windows((4,), 0, 1), "size=0"),
        (lambda: mirror_windows(3), "side is 3"),
        (lambda: Circuit(4, 2, (Layer(windows((4,), 2, 2), 2),)), "2 positions"),
        (lambda: Circuit(2, 2, (Layer(np.array([[0, 2]]), 2),)), "children beyond"),
        (lambda: Circuit(2, 2, (Layer(np.array([[-1, -1]]), 2),)), "without children"),
        (lambda: line(4, 1, 2, 2).grid_tensor([]), "weights have shapes"),
        (lambda: matricize(np.zeros((2, 2)), [0, 1]), "some, not all"),
        (lambda: rank_modulo(np.ones((2, 2))), "float64"),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(ValueError, match=text):
        make()
