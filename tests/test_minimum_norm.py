"""Minimum norm, ridge and kernels against numpy, sklearn and gradient descent."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import pairwise_kernels

from lessons_lib.theory import minimum_norm as mn


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def problem():
    return rng().standard_normal((30, 80)), rng(1).standard_normal((30, 3))


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = rng().permutation(len(x))[:300]
    return x[order] / 16, np.eye(10)[y[order]]


@pytest.mark.parametrize("columns", [slice(None), 0])
def test_min_norm_is_the_pseudo_inverse(problem, columns):
    x, y = problem[0], problem[1][:, columns]
    w = mn.min_norm_solution(x, y)
    assert w.shape == (80, *y.shape[1:])
    assert np.allclose(w, np.linalg.pinv(x) @ y, atol=1e-12)
    assert np.allclose(w, np.linalg.lstsq(x, y)[0], atol=1e-12)


def test_gradient_descent_from_zero_arrives_there(problem):
    x, y = problem
    w, rate = np.zeros((80, 3)), 1 / np.linalg.norm(x, 2) ** 2
    for _ in range(2000):
        w -= rate * x.T @ (x @ w - y)
    assert np.allclose(w, mn.min_norm_solution(x, y), atol=1e-8)


def test_ridge_path_against_sklearn_and_its_limit(problem):
    x, y = problem
    path = mn.ridge_path(x, y, [10.0, 1e-3, 1e-6, 0.0])
    assert path.shape == (4, 80, 3)
    for penalty, w in zip([10.0, 1e-3], path, strict=False):
        assert np.allclose(w, Ridge(alpha=penalty, fit_intercept=False).fit(x, y).coef_.T, atol=1e-8)
        assert np.allclose(w, mn.ridge_solution(x, y, penalty))
    limit = mn.min_norm_solution(x, y)
    distances = np.linalg.norm(path - limit, axis=(1, 2))
    assert (np.diff(distances) < 0).all() and distances[-1] < 1e-12


def test_ridge_path_at_zero_takes_any_rank():
    x = rng().standard_normal((50, 4)) @ rng(1).standard_normal((4, 20))
    y = rng(2).standard_normal(50)
    assert np.allclose(mn.ridge_solution(x, y, 0.0), np.linalg.lstsq(x, y, rcond=1e-10)[0], atol=1e-10)


def test_null_space_noise_changes_the_model_and_no_training_prediction(problem):
    x, y = problem
    v = mn.null_space_directions(x, 5, rng())
    assert v.shape == (80, 5) and np.allclose(np.linalg.norm(v, axis=0), 1)
    assert np.abs(x @ v).max() < 1e-13
    w = mn.min_norm_solution(x, y[:, 0])
    for direction in v.T:  # perpendicular to the minimum-norm solution, so every other one is longer
        assert np.linalg.norm(w + 2 * direction) ** 2 == pytest.approx(np.linalg.norm(w) ** 2 + 4)


def test_null_space_of_repeated_features():
    """Rank, not shape, decides: 50 points of 20 features that span 4 dimensions."""
    x = rng().standard_normal((50, 4)) @ rng(1).standard_normal((4, 20))
    assert np.abs(x @ mn.null_space_directions(x, 3, rng())).max() < 1e-12


def test_kernels_against_sklearn_and_by_hand(digits):
    x, z = digits[0][:40], digits[0][40:70]
    square = ((x[:, None] - z) ** 2).sum(-1)
    assert np.allclose(mn.gaussian_kernel(x, z, 3.0), np.exp(-square / 18))
    assert np.allclose(mn.gaussian_kernel(x, z, 3.0), pairwise_kernels(x, z, "rbf", gamma=1 / 18))
    assert np.allclose(mn.laplacian_kernel(x, z, 3.0), np.exp(-np.sqrt(square) / 3))
    assert np.allclose(mn.linear_kernel(x, z), pairwise_kernels(x, z, "linear"))
    assert np.array_equal(np.diag(mn.laplacian_kernel(x, x, 3.0)), np.ones(40))


def test_kernel_regression_against_sklearn(digits):
    x, y = digits
    kernel = mn.gaussian_kernel(x[:200], x[:200], 2.0)
    fit = mn.kernel_interpolation(kernel, y[:200], ridge=0.1)
    ours = mn.gaussian_kernel(x[200:], x[:200], 2.0) @ fit.alpha
    theirs = KernelRidge(alpha=0.1, kernel="rbf", gamma=1 / 8).fit(x[:200], y[:200]).predict(x[200:])
    assert np.allclose(ours, theirs, atol=1e-10)
    assert fit.residual == pytest.approx(np.abs(0.1 * fit.alpha).max())  # (K + r I) alpha = y


@pytest.mark.parametrize("kernel", [mn.gaussian_kernel, mn.laplacian_kernel])
def test_interpolation_fits_random_labels_exactly(digits, kernel):
    x = digits[0]
    labels = np.eye(10)[rng(2).integers(0, 10, len(x))]
    assert mn.kernel_interpolation(kernel(x, x, 1.0), labels).residual < 1e-8


def test_rkhs_norm_of_the_linear_kernel_is_the_length_of_w(problem):
    x, y = problem
    fit = mn.kernel_interpolation(mn.linear_kernel(x, x), y)
    assert fit.norm == pytest.approx(np.linalg.norm(mn.min_norm_solution(x, y)))
    assert fit.norm**2 == pytest.approx(np.sum(y * fit.alpha))  # K alpha = y


def test_too_few_dimensions_to_interpolate(digits):
    x, y = digits
    with pytest.raises(mn.SingularSystemError, match="300 x 300 kernel matrix is not .* positive definite"):
        mn.kernel_interpolation(mn.linear_kernel(x, x), y)
    with pytest.raises(mn.SingularSystemError, match="not .* positive definite"):
        mn.min_norm_solution(x, y)
    with pytest.raises(mn.SingularSystemError, match="full column rank"):
        mn.null_space_directions(rng().standard_normal((30, 10)), 1, rng())


def test_wrong_arguments(problem):
    x, y = problem
    with pytest.raises(ValueError, match=r"\(30, 80\) and \(29, 3\)"):
        mn.min_norm_solution(x, y[:29])
    with pytest.raises(ValueError, match="-1"):
        mn.ridge_path(x, y, [1.0, -1.0])
