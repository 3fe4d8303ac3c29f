"""Hessians against closed forms, autograd's own, finite differences, and dense eigenvalues."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib import models
from lessons_lib.measures import curvature
from lessons_lib.measures.curvature import (
    CurvatureError,
    Hessian,
    exact_gauss_newton,
    exact_hessian,
    exact_spectrum,
    leading_eigenpairs,
    spectral_density,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(build, seed=0, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().to(dtype).eval()


def conv():
    net = nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    nn.init.uniform_(net[1].running_mean)
    nn.init.uniform_(net[1].running_var, 0.5, 2)
    return net


NETS = {
    "tanh": lambda: models.mlp(10, 6, 3, activation=nn.Tanh),
    "relu": lambda: models.mlp(10, 6, 6, 3),
    "conv, batch norm": conv,
}


def data(n=50, dtype=torch.float64):
    return torch.randn(n, 1, 10, generator=generator(1), dtype=dtype), torch.randint(3, (n,), generator=generator(2))


def loss_of_vector(model, x, y, loss=F.cross_entropy):
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def value(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(torch.func.functional_call(model, state, (x,)), y)

    return value, nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.fixture(scope="module")
def larger():
    """A trained network of 939 weights in single precision, its Hessian, and its dense spectrum."""
    model = built(lambda: models.mlp(10, 24, 24, 3), dtype=torch.float32)
    x, y = data(300, torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    reference = torch.func.hessian(loss_of_vector(model.double(), x.double(), y)[0])
    matrix = reference(nn.utils.parameters_to_vector(model.parameters()).detach()).numpy()
    model.float()
    return model, x, y, np.linalg.eigvalsh(matrix)[::-1], matrix


@pytest.mark.parametrize("name", NETS)
def test_whole_hessian_against_autograd(name):
    model, (x, y) = built(NETS[name]), data()
    expected = torch.autograd.functional.hessian(*loss_of_vector(model, x, y)).numpy()
    found = exact_hessian(model, x, y)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(exact_spectrum(model, x, y)[::-1], np.linalg.eigvalsh(expected), atol=1e-12)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch_size", [None, 17])
def test_whole_hessian_has_the_products_as_columns(name, batch_size):
    model, (x, y) = built(NETS[name]), data()
    hessian = Hessian(model, x, y, batch_size=batch_size)
    columns = hessian @ torch.eye(hessian.size, dtype=torch.float64)
    np.testing.assert_allclose(curvature._whole(hessian), columns, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 17])
def test_products_against_finite_differences_of_the_gradient(batch_size):
    model, (x, y) = built(NETS["tanh"]), data()
    value, weights = loss_of_vector(model, x, y)
    slope = torch.func.grad(value)
    hessian = Hessian(model, x, y, batch_size=batch_size)
    torch.testing.assert_close(hessian.gradient, slope(weights))
    v = torch.randn(hessian.size, 3, generator=generator(3), dtype=torch.float64)
    found = hessian @ v
    for column in range(3):
        step = 1e-5 * v[:, column]
        differences = (slope(weights + step) - slope(weights - step)) / 2e-5
        torch.testing.assert_close(found[:, column], differences, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(hessian.matvec(v[:, 0]), found[:, 0])
    np.testing.assert_allclose(hessian.linear_operator() @ v.numpy(), found, atol=1e-12)


def test_closed_forms():
    x = torch.randn(40, 5, generator=generator(), dtype=torch.float64)
    y = torch.randn(40, 1, generator=generator(1), dtype=torch.float64)
    model = built(lambda: nn.Linear(5, 1, bias=False))
    half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()  # noqa: E731
    np.testing.assert_allclose(exact_hessian(model, x, y, half_square), x.t() @ x / 40, atol=1e-12)
    # Logistic regression: X^T diag(p (1 - p)) X / n.
    labels = (y > 0).double()
    p = torch.sigmoid(model(x)).detach()
    expected = x.t() @ (p * (1 - p) * x) / 40
    np.testing.assert_allclose(
        exact_hessian(model, x, labels, F.binary_cross_entropy_with_logits), expected, atol=1e-12
    )
    # A loss linear in the weights has none.
    assert not exact_hessian(model, x, y, lambda outputs, targets: outputs.mean()).any()


def test_frozen_parameters_do_not_count():
    model, (x, y) = built(NETS["relu"]), data()
    whole = exact_hessian(model, x, y)
    model[1].requires_grad_(False)
    np.testing.assert_allclose(exact_hessian(model, x, y), whole[66:, 66:], atol=1e-12)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both ends"])
def test_leading_eigenpairs_against_the_dense_spectrum(larger, which):
    model, x, y, spectrum, matrix = larger
    values, vectors = leading_eigenpairs(Hessian(model, x, y), 5, which, tolerance=1e-6)
    expected = {
        "largest": spectrum[:5],
        "smallest": spectrum[-5:],
        "magnitude": np.sort(spectrum[np.argsort(-np.abs(spectrum))[:5]])[::-1],
        "both ends": np.r_[spectrum[:3], spectrum[-2:]],
    }[which]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6 * spectrum[0])
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-4 * spectrum[0])
    again, _ = leading_eigenpairs(Hessian(model, x, y), 5, which, tolerance=1e-6)
    assert np.array_equal(values, again)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both ends"])
def test_small_matrices_are_solved_whole(which, monkeypatch):
    # With a hidden layer both ends are far from zero; at a linear one's zeros, Lanczos has nothing to converge to.
    model, (x, y) = built(lambda: models.mlp(10, 2, 3, activation=nn.Tanh)), data()
    dense, _ = leading_eigenpairs(Hessian(model, x, y), 3, which)
    monkeypatch.setattr(curvature, "_DENSE", 0)
    iterated, _ = leading_eigenpairs(Hessian(model, x, y), 3, which, tolerance=1e-10)
    np.testing.assert_allclose(dense, iterated, atol=1e-9)


def test_density_has_the_moments_and_the_tail_of_the_spectrum(larger):
    model, x, y, spectrum, _ = larger
    density = spectral_density(Hessian(model, x, y), probes=8, steps=40, generator=generator())
    assert density.nodes.shape == density.weights.shape == (8, 40) and density.size == len(spectrum)
    np.testing.assert_allclose(density.weights.sum(1), 1, atol=1e-9)
    for power in (1, 2):
        found, expected = density.moment(power), (spectrum**power).mean()
        error = found.std(ddof=1) / np.sqrt(8)
        assert abs(found.mean() - expected) < 4 * error and error < 0.5 * expected
    threshold = 0.1 * spectrum[0]
    found, expected = density.share_above(threshold), (spectrum > threshold).mean()
    assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / np.sqrt(8)
    # The ends of the spectrum are found to high accuracy, and the density integrates to one.
    np.testing.assert_allclose(density.nodes.max(1), spectrum[0], rtol=1e-3)
    grid = np.linspace(spectrum[-1] - 1, spectrum[0] + 1, 4000)
    np.testing.assert_allclose(np.trapezoid(density.density(grid, 0.05), grid, axis=1), 1, atol=1e-6)


def test_a_probe_that_exhausts_its_space_ends_early():
    """The Hessian of a linear model in three dimensions has three eigenvalues: three steps find all."""
    x = torch.randn(30, 3, generator=generator(), dtype=torch.float64)
    model = built(lambda: nn.Linear(3, 1, bias=False))
    half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()  # noqa: E731
    density = spectral_density(Hessian(model, x, torch.zeros(30, 1).double(), half_square), probes=2, steps=10)
    expected = torch.linalg.eigvalsh(x.t() @ x / 30).numpy()
    np.testing.assert_allclose(density.nodes, np.stack([expected, expected]), rtol=1e-9)
    flat = lambda outputs, targets: outputs.mean()  # noqa: E731
    none = spectral_density(Hessian(model, x, x, flat), probes=2, steps=3)
    assert (none.nodes == 0).all() and (none.share_above(0.0) == 0).all()


def test_agreement_with_curvlinops(larger):
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed")
    model, x, y, _, _ = larger
    ours = Hessian(model, x, y)
    theirs = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)])
    v = torch.randn(ours.size, generator=generator())
    torch.testing.assert_close(ours @ v, theirs @ v, atol=1e-4, rtol=1e-4)


def test_bad_input(larger, monkeypatch):
    model, x, y, _, _ = larger
    hessian = Hessian(model, x, y)
    with pytest.raises(CurvatureError, match="vector has length 3"):
        hessian @ torch.ones(3)
    with pytest.raises(ValueError, match="which is 'top'; it must be one of: largest"):
        leading_eigenpairs(hessian, 1, "top")
    with pytest.raises(ValueError, match="k is 9999"):
        leading_eigenpairs(hessian, 9_999)
    with pytest.raises(CurvatureError, match="trainable parameters"):
        Hessian(nn.ReLU(), x, y)
    with pytest.raises(CurvatureError, match="gradient is not finite"):
        Hessian(model, x * float("nan"), y)
    with pytest.raises(CurvatureError, match="would take .* GB; use leading_eigenpairs or spectral_density"):
        exact_hessian(nn.Linear(200, 200), x, y)
    with pytest.raises(ValueError, match="probes=0"):
        spectral_density(hessian, probes=0)


def test_values_that_did_converge_are_kept(larger, monkeypatch):
    model, x, y, spectrum, _ = larger
    inner = curvature.eigsh
    monkeypatch.setattr(curvature, "eigsh", lambda *a, **k: inner(*a, **k, maxiter=1))
    with pytest.raises(CurvatureError, match="of 8 eigenvalues converged") as caught:
        leading_eigenpairs(Hessian(model, x, y), 8, tolerance=1e-8)
    assert all(np.abs(spectrum - value).min() < 1e-3 * spectrum[0] for value in caught.value.values)


def test_gauss_newton_is_the_whole_hessian_of_a_linear_model():
    model, (x, y) = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 3))), data()
    np.testing.assert_allclose(exact_gauss_newton(model, x, y), exact_hessian(model, x, y), atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_gauss_newton_sample_by_sample(name):
    model, (x, y) = built(NETS[name]), data(12)
    total = 0
    for one in x:
        outputs = model(one[None])[0]
        rows = []
        for output in outputs:
            slopes = torch.autograd.grad(output, list(model.parameters()), retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([slope.flatten() for slope in slopes]))
        jacobian, p = torch.stack(rows), outputs.softmax(0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian / len(x)
    found = exact_gauss_newton(model, x, y)
    np.testing.assert_allclose(found, total.detach().numpy(), atol=1e-12)
    assert np.linalg.matrix_rank(found, tol=1e-10) <= 12 * 2
