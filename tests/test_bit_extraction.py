"""Networks set by hand against the polynomials they stand for, exact digits, and splines found otherwise."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from lessons_lib.theory import bit_extraction as be

# Ends, dyadic points and points just below them, where digits flip, and others.
DYADIC = np.arange(1025) / 1024
GRID = np.unique(np.concatenate([DYADIC, np.clip(DYADIC - 1e-12, 0, 1), np.linspace(0, 1, 4_999)]))


def spelled(x, n):
    """The number that the first n digits spell, in exact arithmetic; all ones at x = 1."""
    scaled = [min(int(Fraction(float(value)) * 2**n), 2**n - 1) for value in x]
    return np.array([value / 2**n for value in scaled])


@pytest.mark.parametrize("n", [1, 3, 10, 20])
def test_digits_against_exact_arithmetic(n):
    net = be.UnitNetwork()
    bits = be.digits(net, 0, n)
    net.output = ({bit: 2.0**-i for i, bit in enumerate(bits, 1)}, 0.0)
    np.testing.assert_array_equal(net(GRID), spelled(GRID, n))
    assert net.count("step") == net.count() == net.depth == n


def test_one_rectifier_multiplies_by_a_digit_below_two_and_not_beyond():
    y = np.linspace(0, 1.999999, 1000)
    for digit in (0.0, 1.0):
        net = be.UnitNetwork(n_inputs=2)
        net.output = ({net.add("relu", {0: 1.0, 1: 2.0}, -2.0): 1.0}, 0.0)
        np.testing.assert_allclose(net(np.stack([y, np.full_like(y, digit)], 1)), digit * y, atol=1e-15)
    assert net(np.array([[3.0, 0.0]]))[0] == 1.0  # a number above 2 is not switched off


@pytest.mark.parametrize("p", [1, 2, 3, 5, 8])
def test_powers(p):
    for n in (1, 4, 11):
        net = be.power(p, n)
        np.testing.assert_allclose(net(GRID), spelled(GRID, n) ** p, atol=1e-14)
        assert np.abs(net(GRID) - GRID**p).max() <= p * 2.0**-n
        assert (net.count("step"), net.count("relu")) == (n, (p - 1) * n)
        assert net.depth == n + p - 1
        assert len(net.output[0]) == n  # no connection that would carry nothing


def test_polynomials():
    rng = np.random.default_rng(0)
    for _ in range(10):
        a = rng.normal(size=rng.integers(2, 8))
        net = be.polynomial(a, 9)
        np.testing.assert_allclose(net(GRID), np.polyval(a[::-1], spelled(GRID, 9)), atol=1e-12)
        bound = 2.0**-9 * (np.arange(len(a)) * np.abs(a)).sum()
        assert np.abs(net(GRID) - np.polyval(a[::-1], GRID)).max() <= bound + 1e-12


def test_products_of_linear_forms():
    rng = np.random.default_rng(1)
    forms = rng.dirichlet(np.ones(4), size=3)[:, :3]  # rows that sum to less than one
    x = rng.uniform(size=(500, 3))
    x[0] = 1.0
    for n in (2, 6):
        net = be.product_of_forms(forms, n)
        rounded = np.stack([spelled(column, n) for column in x.T], 1)
        np.testing.assert_allclose(net(x), (rounded @ forms.T).prod(1), atol=1e-14)
        assert np.abs(net(x) - (x @ forms.T).prod(1)).max() <= 3 * 2.0**-n
        assert (net.count("step"), net.count("relu")) == (3 * n, 2 * 3 * n)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_sawtooth(m):
    net = be.sawtooth(m)
    turns = np.arange(2**m + 1) / 2**m
    expected = np.interp(GRID, turns, np.arange(2**m + 1) % 2)
    np.testing.assert_allclose(net(GRID), expected, atol=1e-12)
    assert net.count() == 2 * m and net.depth == m
    square = be.sawtooth_square(m)
    np.testing.assert_allclose(square(GRID), np.interp(GRID, turns, turns**2), atol=1e-12)
    middles = (turns[:-1] + turns[1:]) / 2
    np.testing.assert_allclose(square(middles) - middles**2, 4.0 ** -(m + 1), atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 40])
def test_best_spline_of_a_parabola_is_known(k):
    net, error = be.best_spline(lambda x: x * x, k)
    assert error == pytest.approx(1 / (8 * k**2), rel=1e-6)
    assert np.abs(net(GRID) - GRID**2).max() == pytest.approx(error, rel=1e-3)
    assert net.count("relu") == net.count() == k - 1 and net.depth == min(1, k - 1)


def test_best_spline_against_linear_programs():
    """For fixed knots the best continuous spline is a linear program; then the knots are searched."""
    f, grid = (lambda x: np.exp(3 * x)), np.linspace(0, 1, 201)

    def best_values(inner):
        knots = np.concatenate([[0], np.sort(inner), [1]])
        hats = np.stack([np.interp(grid, knots, unit) for unit in np.eye(len(knots))], 1)
        ones = np.ones((len(grid), 1))
        rows, bounds = np.block([[hats, -ones], [-hats, -ones]]), np.concatenate([f(grid), -f(grid)])
        return linprog([0] * len(knots) + [1], A_ub=rows, b_ub=bounds, bounds=(None, None)).fun

    for k, start in ((2, [0.5]), (3, [0.4, 0.7])):
        net, error = be.best_spline(f, k)
        assert np.abs(net(grid) - f(grid)).max() == pytest.approx(error, rel=1e-3)
        found = minimize(best_values, start, method="Nelder-Mead", options=dict(maxiter=120)).fun
        # On a grid the largest error is seen a little too small.
        assert 0.99 * error < found < 1.0005 * error


def test_least_units():
    for k in (2, 5, 100):  # one layer: tight for the parabola
        assert be.least_units(1 / (8 * k**2), 1, 2.0) == pytest.approx(k - 1)
    for net, layers in ((be.sawtooth_square(6), 6), (be.power(2, 12), 13)):
        error = np.abs(net(GRID) - GRID**2).max()
        assert net.depth == layers and net.count() >= be.least_units(error, layers, 2.0)
    assert be.least_units(1e-6, 10**6, 2.0) == pytest.approx(0.5 * np.log(2 / 16e-6), rel=1e-4)
    assert be.least_units(10.0, 1, 2.0) == 0


def test_bad_input():
    net = be.UnitNetwork()
    with pytest.raises(ValueError, match="a unit is 'relu' or 'step'; got 'tanh'"):
        net.add("tanh", {0: 1.0})
    with pytest.raises(ValueError, match="unit 1 can read nodes 0 to 0 only"):
        net.add("relu", {1: 1.0})
    with pytest.raises(ValueError, match="the network has 1 inputs; got an array of shape .3, 2."):
        net(np.ones((3, 2)))
    with pytest.raises(ValueError, match="entries of at least 0"):
        be.product_of_forms([[0.5, -0.1]], 3)
    for call in (lambda: be.power(0, 3), lambda: be.power(2, 0), lambda: be.sawtooth(0)):
        with pytest.raises(ValueError, match="at least"):
            call()
    with pytest.raises(ValueError, match="at least one"):
        be.best_spline(lambda x: x * x, 0)
    with pytest.raises(ValueError, match="must be positive"):
        be.least_units(0.0, 1, 2.0)
