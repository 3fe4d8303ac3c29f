"""The hand-built networks against exact arithmetic, scipy's triangular solve and real digits."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import solve_triangular
from sklearn.datasets import load_digits

from lessons_lib.theory.shattering import ShatteringError, shatter, shatter_deep, solve_on_line


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = rng().permutation(len(x))[:1000]
    return (x[order] - x[order].mean(0)) / 8, y[order]


def test_exact_in_rational_arithmetic():
    z = np.array(sorted(Fraction(int(i), 7) for i in rng().choice(10_000, 40, replace=False)))
    y = np.array([Fraction(int(v)) for v in rng(1).integers(-9, 10, z.size)])
    b, w = solve_on_line(z, y, Fraction(1, 4))
    assert all(isinstance(v, Fraction) for v in (*b, *w))
    interleaved = np.ravel(np.column_stack([b, z]))
    assert all(left < right for left, right in zip(interleaved[:-1], interleaved[1:], strict=True))
    hidden = [[max(zi - bj, Fraction(0)) for bj in b] for zi in z]
    assert [sum(h * wj for h, wj in zip(row, w, strict=True)) for row in hidden] == list(y)


def test_float_network_evaluated_exactly():
    """The stored float64 weights, read as rationals, already give the values: it is not rounding that helps."""
    x = rng().standard_normal((60, 5))
    y = rng(1).integers(0, 10, 60)
    net = shatter(x, y, rng(2))
    b, w = [[Fraction(v) for v in array] for array in (net.b, net.w)]
    for zi, yi in zip(net.project(x), y, strict=True):
        out = sum(wj * max(Fraction(zi) - bj, Fraction(0)) for bj, wj in zip(b, w, strict=True))
        assert abs(out - int(yi)) < 1e-8


def test_weights_solve_the_papers_triangular_system(digits):
    x, y = digits
    net = shatter(x, y, rng())
    order = np.argsort(net.project(x))
    matrix = np.maximum(net.project(x)[order, None] - net.b, 0)
    assert np.array_equal(matrix, np.tril(matrix)) and (np.diag(matrix) > 0).all()
    expected = solve_triangular(matrix, y[order], lower=True)
    assert np.abs(net.w - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("labels", ["true", "random"])
def test_any_labels_of_real_digits(digits, labels):
    x, y = digits
    y = y if labels == "true" else rng(3).integers(0, 10, y.size)
    net = shatter(x, y, rng(4))
    assert net.n_weights == 2 * 1000 + 64
    assert np.abs(net(x) - y).max() < 1e-6


def test_images_are_flattened_and_large_inputs_blocked(digits):
    x, y = digits
    net = shatter(x.reshape(-1, 1, 8, 8), y, rng())
    many = np.tile(x, (20, 1))  # 20 000 rows of 1000 units: more than one block
    assert np.abs(net(many.reshape(-1, 8, 8)) - np.tile(y, 20)).max() < 1e-6
    assert net(x[:0]).shape == (0,)


def test_bias_position_decides_how_the_weights_grow():
    z, y = np.arange(200.0), rng().integers(0, 10, 200).astype(float)
    quarter, half, most = (np.abs(solve_on_line(z, y, p)[1]).max() for p in (0.25, 0.5, 0.6))
    assert quarter < half < 1e3
    assert most > 1e20


@pytest.mark.parametrize("depth", [3, 5, 12, 101])
def test_deep_network_is_the_same_function(depth):
    n, d = 100, 7
    x, y = rng().standard_normal((n, d)), rng(1).integers(0, 10, n)
    deep, shallow = shatter_deep(x, y, depth, rng(2)), shatter(x, y, rng(2))
    assert deep.depth == depth
    assert deep.width <= -(-(n - 1) // (depth - 2)) + 3
    assert deep.n_weights <= 4 * n + d + 7 * depth
    assert np.abs(deep(x) - y).max() < 1e-6
    elsewhere = rng(3).standard_normal((50, d))
    assert np.allclose(deep(elsewhere), shallow(elsewhere), rtol=1e-9, atol=1e-6)


def test_one_point():
    assert shatter([[3.0, 4.0]], [7], rng())([[3.0, 4.0]]) == pytest.approx(7)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[0, 1], [2, 3], [0, 1]], [0, 1, 2], "points 0 and 2 are equal"),
        ([[0, 1], [2, 3]], [0, 1, 2], "y \\(3,\\)"),
        ([0, 1], [0, 1], "x has shape \\(2,\\)"),
        (np.empty((0, 2)), [], "at least one point"),
        ([[0, np.nan], [2, 3]], [0, 1], "finite"),
        ([[1e8, 0], [1e8, 1e-9]], [0, 1], "apart"),
    ],
)
def test_errors_name_the_trouble(x, y, message):
    with pytest.raises(ShatteringError, match=message):
        shatter(x, y, rng())


@pytest.mark.parametrize("depth", [2, 5])
def test_depth_out_of_range(depth):
    with pytest.raises(ShatteringError, match=f"depth is {depth}; 3 points allow 3 to 4"):
        shatter_deep(np.eye(3), [0, 1, 2], depth, rng())
