"""Free addition against closed forms, sampled matrices, and edges found otherwise."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from lessons_lib.theory import random_matrix as rm

BOTH = pytest.mark.parametrize("model", rm.MODELS)


def test_almost_without_noise_it_is_marchenko_and_pastur():
    phi, at = 0.3, np.linspace(0.25, 2.3, 20)
    ends = (1 - math.sqrt(phi)) ** 2, (1 + math.sqrt(phi)) ** 2
    expected = np.sqrt((ends[1] - at) * (at - ends[0])) / (2 * math.pi * phi * at)
    np.testing.assert_allclose(rm.density(at, 1e-9, phi), expected, rtol=1e-3)
    assert rm.left_edge(1e-9, phi) == pytest.approx(ends[0], rel=1e-3)


def test_large_energy_is_wigners_semicircle():
    energy, phi = 1e6, 0.5
    radius = 2 * math.sqrt(2 * energy)
    at = np.linspace(-0.9, 0.9, 7) * radius
    expected = 2 / (math.pi * radius**2) * np.sqrt(radius**2 - at**2)
    np.testing.assert_allclose(rm.density(at, energy, phi, height=1e-3), expected, rtol=2e-3)
    assert rm.left_edge(energy, phi) == pytest.approx(-radius, rel=2e-3)


@BOTH
@pytest.mark.parametrize("phi", [0.1, 0.5])
def test_density_has_the_mass_and_the_moments_of_its_parts(model, phi):
    energy = 3 * rm.critical_energy(phi, model)
    left = rm.left_edge(energy, phi, model)
    # Dense where the density rises from its edge; far enough to the right for all of it.
    x = left + (8 + 8 * math.sqrt(energy) - left) * np.linspace(0, 1, 6_000) ** 2
    values = rm.density(x, energy, phi, model)
    moments = [np.trapezoid(x**k * values, x) for k in range(3)]
    second = 2 * energy if model == "wigner" else energy * phi / 2  # free cumulants add: phi from Marchenko-Pastur
    assert moments[0] == pytest.approx(1, abs=2e-3)
    assert moments[1] == pytest.approx(1, abs=5e-3)
    assert moments[2] - moments[1] ** 2 == pytest.approx(phi + second, rel=1e-2)


@BOTH
def test_samples_follow_the_theory(model):
    phi, rng = 0.4, np.random.default_rng(0)
    for factor in (0.5, 2.0, 4.0):
        energy = factor * rm.critical_energy(phi, model)
        spectra = np.linalg.eigvalsh([rm.sample(400, energy, phi, rng, model) for _ in range(3)])
        assert (spectra < 0).mean() == pytest.approx(rm.index(energy, phi, model), abs=3e-3)
        assert spectra.min() == pytest.approx(rm.left_edge(energy, phi, model), abs=0.06 * spectra.std())
    assert rm.index(0.99 * rm.critical_energy(phi, model), phi, model) == 0


@BOTH
@pytest.mark.parametrize("phi", [0.1, 0.25, 0.5, 0.75])
def test_critical_energy_against_the_edge(model, phi):
    numeric = math.exp(brentq(lambda t: rm.left_edge(math.exp(t), phi, model), -12, 3, xtol=1e-12))
    assert rm.critical_energy(phi, model) == pytest.approx(numeric, rel=1e-7)


def test_known_critical_energies():
    assert rm.critical_energy(1e-9) == pytest.approx(1 / 8)
    assert rm.critical_energy(1 - 1e-9) == pytest.approx(0, abs=1e-8)


@BOTH
def test_index_against_plain_integration(model):
    phi = 0.3
    energy = 2.5 * rm.critical_energy(phi, model)
    edge = rm.left_edge(energy, phi, model)
    plain = quad(lambda x: rm.density([x], energy, phi, model)[0], edge, 0, limit=100, epsabs=1e-7)[0]
    assert rm.index(energy, phi, model) == pytest.approx(plain, rel=1e-3)


@BOTH
def test_index_leaves_the_edge_with_exponent_three_halves(model):
    phi, x = 0.3, np.array([1e-3, 1e-2])
    values = [rm.index((1 + each) * rm.critical_energy(phi, model), phi, model) for each in x]
    assert np.diff(np.log(values))[0] / np.log(10) == pytest.approx(1.5, abs=0.02)


def followed(z, energy, phi, model):
    """The resolvent as the root that goes over into 1 / z far from the real axis, followed from there."""
    value = None
    for share in np.linspace(1.0, 0.0, 80):
        at = z.real + 1j * z.imag * (1e3 / z.imag) ** share
        near = 1 / at if value is None else value
        roots = [np.roots(coefficients) for coefficients in rm._polynomial(at, energy, phi, model)]
        value = np.array([each[abs(each - before).argmin()] for each, before in zip(roots, near, strict=True)])
    return value


@BOTH
@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0])
def test_the_one_root_below_the_axis_is_the_one_that_becomes_1_over_z(model, factor):
    for phi in (0.1, 0.75):
        energy = factor * rm.critical_energy(phi, model)
        for height in (1e-7, 0.1):
            z = rm.left_edge(energy, phi, model) + np.array([-5, -0.1, -1e-4, 1e-4, 0.1, 1, 2, 8]) + 1j * height
            np.testing.assert_allclose(rm.resolvent(z, energy, phi, model), followed(z, energy, phi, model), rtol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="must be one of: wigner, product"):
        rm.density([0.0], 1.0, 0.5, "goe")
    with pytest.raises(ValueError, match="phi lie in"):
        rm.left_edge(1.0, 1.5)
    with pytest.raises(ValueError, match="energy must be positive"):
        rm.sample(10, 0.0, 0.5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="positive imaginary part"):
        rm.resolvent([1.0], 1.0, 0.5)
