"""Dual activations against expectations, skeletons' kernels against plain recursions and wide networks."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad

from lessons_lib.theory import dual_kernels
from lessons_lib.theory.dual_kernels import (
    ACTIVATIONS,
    Skeleton,
    activation,
    compositional_kernel,
    convolutional,
    fully_connected,
    hermite_coefficients,
    random_features,
)

CORRELATIONS = torch.tensor([-1.0, -0.7, 0.0, 0.3, 0.9, 1.0], dtype=torch.float64)


def inputs(n, count=1, d=5, seed=0):
    x = torch.randn(n, count, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / torch.linalg.vector_norm(x, dim=2, keepdim=True)


def expectation(name, rho):
    """E[s(u) s(v)] in polar coordinates, where a kink at 0 lies on lines that end the pieces."""
    function, between = activation(name).function, math.acos(rho)

    def integrand(radius, angle):
        pair = torch.tensor([radius * math.cos(angle), radius * math.cos(angle - between)], dtype=torch.float64)
        u, v = function(pair).tolist()
        return u * v * radius * math.exp(-(radius**2) / 2) / (2 * math.pi)

    right = math.pi / 2
    ends = sorted(
        {angle % (2 * math.pi) for angle in (right, -right, between + right, between - right)} | {0, 2 * math.pi}
    )
    return sum(dblquad(integrand, a, b, 1e-9, 12, epsabs=1e-7)[0] for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dual_is_the_expectation(name):
    rho = 0.4
    dual = activation(name).dual(torch.tensor(rho, dtype=torch.float64)).item()
    assert dual == pytest.approx(expectation(name, rho), abs=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_normalized_and_duals_stay_in_range(name):
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert torch.trapezoid(activation(name).function(z) ** 2 * weight, z).item() == pytest.approx(1, abs=1e-4)
    dual = activation(name).dual(CORRELATIONS)
    assert dual[-1].item() == pytest.approx(1, abs=1e-12) and dual.abs().max() <= 1 + 1e-12


@pytest.mark.parametrize(("name", "degree", "off"), [("exponential", 12, 1e-9), ("sine", 12, 1e-9), ("relu", 12, 2e-4)])
def test_hermite_series(name, degree, off):
    series = np.polynomial.Polynomial(hermite_coefficients(name, degree) ** 2)
    rho = np.linspace(-0.6, 0.6, 7)
    assert np.allclose(series(rho), activation(name).dual(torch.tensor(rho)).numpy(), atol=off)


def test_fully_connected_kernel_is_the_arc_cosine_recursion():
    x, y = inputs(37), inputs(11, seed=1)
    angle_kernel = x[:, 0].numpy() @ y[:, 0].numpy().T
    for _ in range(3):  # Cho and Saul 2009, their kernel of order 1
        angle = np.arccos(angle_kernel)
        angle_kernel = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    assert np.allclose(compositional_kernel(fully_connected("relu", 3), x, y), angle_kernel, atol=1e-14)


@pytest.mark.parametrize("numbers", [37, 5_000, 400_000])
def test_blocks_and_triangle_leave_no_trace(monkeypatch, numbers):
    skeleton, x = convolutional("relu", (3, 4), 2, 3), inputs(70, 12)
    whole = compositional_kernel(skeleton, x, x)
    monkeypatch.setattr(dual_kernels, "_BLOCK", numbers)
    assert torch.allclose(compositional_kernel(skeleton, x), whole, atol=1e-14)
    assert torch.allclose(whole.diagonal(), torch.ones(70, dtype=torch.float64))


def test_convolutional_skeleton_by_hand():
    skeleton = convolutional("step", (3,), 2, 2)
    assert skeleton == Skeleton(3, (("step", (0, 1)), ("step", (1, 2)), ("step", (3, 4))))
    assert skeleton.depth == 2
    x, y = inputs(2, 3)
    per_input = (x * y).sum(1)
    dual = activation("step").dual
    nodes = dual((per_input[:2] + per_input[1:]) / 2)
    found = compositional_kernel(skeleton, x[None], y[None])
    assert found.item() == pytest.approx(dual(nodes.mean()).item(), abs=1e-14)


def test_a_window_over_everything_is_fully_connected():
    x = inputs(9, 6)
    wide = compositional_kernel(convolutional("relu", (2, 3), 5, 3), x)
    assert torch.allclose(wide, compositional_kernel(fully_connected("relu", 3, 6), x), atol=1e-14)


def test_stride_skips_windows():
    assert convolutional("relu", (5,), 2, 2, stride=2).nodes[-1] == ("relu", (5, 6))


@pytest.mark.parametrize("name", ["relu", "sine"])
def test_wide_networks_come_near(name):
    skeleton, x = convolutional(name, (4,), 2, 3), inputs(12, 4)
    kernel = compositional_kernel(skeleton, x)

    def error(width):
        features = random_features(skeleton, x, width, torch.Generator().manual_seed(width))
        return (features @ features.T / width - kernel).square().mean().sqrt()

    assert error(2_000) < 0.06 < error(10)


def test_any_graph_is_allowed():
    """A node may see inputs and other nodes at once, as in a network with skipped layers."""
    skeleton, x = Skeleton(2, (("sine", (0,)), ("relu", (0, 1, 2)))), inputs(3, 2)
    first, second = (x[:, i] @ x[:, i].T for i in (0, 1))
    expected = activation("relu").dual((first + second + activation("sine").dual(first)) / 3)
    assert torch.allclose(compositional_kernel(skeleton, x), expected, atol=1e-14)
    features = random_features(skeleton, x, 3_000, torch.Generator().manual_seed(0))
    assert torch.allclose(features @ features.T / 3_000, expected, atol=0.12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fully_connected("swish", 2), "'swish'"),
        (lambda: fully_connected("relu", 0), "depth is 0"),
        (lambda: convolutional("relu", (3,), 0, 2), "window=0"),
        (lambda: Skeleton(1, ()), "needs inputs and nodes"),
        (lambda: Skeleton(1, (("relu", (1,)),)), "Node 1"),
        (lambda: Skeleton(1, (("relu", (0,)), ("relu", (0,)))), r"\[1\] lead nowhere"),
        (lambda: compositional_kernel(fully_connected("relu", 1), inputs(3, 2)), r"takes \[n, 1, d\]"),
        (lambda: compositional_kernel(fully_connected("relu", 1), 3 * inputs(3)), "length 1"),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(ValueError, match=text):
        make()
