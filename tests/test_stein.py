"""Stein discrepancies against automatic differentiation, brute force and dense programs."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist, squareform

from lessons_lib.measures import stein
from lessons_lib.measures.stein import (
    Gaussian,
    InverseMultiquadric,
    Matern,
    SteinError,
    graph_discrepancy,
    ksd,
    spanner,
)


def matern(u):
    """With a root that autograd can differentiate at 0, where it is right to 1e-8."""
    r = (3 * (u + 1e-16)).sqrt() / 0.8
    return (1 + r) * torch.exp(-r)


KERNELS = {
    "imq": (InverseMultiquadric(), lambda u: (1 + u) ** -0.5),
    "imq, steep": (InverseMultiquadric(c=0.7, beta=-1.5), lambda u: (0.49 + u) ** -1.5),
    "matern": (Matern(0.8), matern),
    "gaussian": (Gaussian(1.3), lambda u: torch.exp(-u / 2 / 1.69)),
}


def sample(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


@pytest.mark.parametrize("name", KERNELS)
def test_against_automatic_differentiation(name):
    kernel, plain = KERNELS[name]
    x, s = sample(7, 3)
    total = 0.0
    for i in range(7):
        for j in range(7):
            a, b = (torch.tensor(x[k], requires_grad=True) for k in (i, j))
            k = plain((a - b).square().sum())
            by_a, by_b = torch.autograd.grad(k, (a, b), create_graph=True)
            mixed = sum(torch.autograd.grad(by_a[c], b, retain_graph=True)[0][c] for c in range(3))
            sa, sb = torch.tensor(s[i]), torch.tensor(s[j])
            total += ((sa @ sb) * k + sa @ by_b + sb @ by_a + mixed).item()
    assert ksd(x, s, kernel) == pytest.approx(np.sqrt(total) / 7, rel=1e-6 if name == "matern" else 1e-10)


def test_blocks_leave_no_trace(monkeypatch):
    x, s = sample(101, 4)
    whole = ksd(x, s)
    monkeypatch.setattr(stein, "_BLOCK", 16)
    assert ksd(x, s) == pytest.approx(whole, rel=1e-12)


def test_agreement_with_stein_thinning():
    thinning = pytest.importorskip("stein_thinning.stein", reason="stein_thinning is not installed")
    kernels = pytest.importorskip("stein_thinning.kernel")
    x, s = sample(60, 2)
    k0 = kernels.make_imq(x, preconditioner="id")
    theirs = thinning.ksd(lambda i, j: k0(x[i], x[j], s[i], s[j]), len(x))
    assert ksd(x, s) == pytest.approx(theirs[-1], rel=1e-10)


def test_ksd_falls_for_the_target_and_not_for_another():
    rng = np.random.default_rng(0)
    right = [np.mean([ksd(x := rng.normal(size=(n, 2)), -x) for _ in range(5)]) for n in (100, 1600)]
    wrong = [np.mean([ksd(x := rng.normal(size=(n, 2)) + [1.0, 0.0], -x) for _ in range(5)]) for n in (100, 1600)]
    assert right[1] < 0.4 * right[0] and wrong[1] > 0.9 * wrong[0] and wrong[1] > 5 * right[1]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_spanner_keeps_its_promise(d):
    x, _ = sample(40, d)
    edges = spanner(x)
    weights = np.zeros((40, 40))
    for a, b in edges:
        weights[a, b] = np.abs(x[a] - x[b]).sum()
    paths, direct = shortest_path(weights, directed=False), squareform(pdist(x, "cityblock"))
    assert (paths <= (2.0 if d > 1 else 1.0) * direct + 1e-9).all()
    assert len(edges) < 40 * 39 / 2 / 2


def dense_program(x, score):
    """The one-dimensional program of the paper, written out with every pair."""
    n, rows, limits = len(x), [], []
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            gap = x[i] - x[j]
            for change, limit in (
                ({i: 1, j: -1}, abs(gap)),
                ({n + i: 1, n + j: -1}, abs(gap)),
                ({i: 1, j: -1, n + i: -gap}, gap**2 / 2),
                ({i: 1, j: -1, n + j: -gap}, gap**2 / 2),
            ):
                row = np.zeros(2 * n)
                for place, value in change.items():
                    row[place] = value
                rows += [row, -row]
                limits += [limit, limit]
    goal = np.concatenate([score, np.ones(n)]) / n
    return -linprog(-goal, A_ub=np.array(rows), b_ub=limits, bounds=(-1, 1)).fun


def test_graph_discrepancy_in_one_dimension():
    for seed in range(3):
        x, _ = sample(12, 1, seed)
        every = [(i, j) for i in range(12) for j in range(i)]
        expected = dense_program(x[:, 0], -x[:, 0])
        assert graph_discrepancy(x, -x, every) == pytest.approx(expected, rel=1e-6)
        # Fewer bounds leave more functions.
        assert graph_discrepancy(x, -x) >= expected * (1 - 1e-6)


def test_graph_discrepancy_separates_coordinates():
    x, s = sample(15, 2)
    edges = spanner(x)
    swapped = graph_discrepancy(x[:, ::-1], s[:, ::-1], edges)
    assert graph_discrepancy(x, s, edges) == pytest.approx(swapped, rel=1e-6)
    rng = np.random.default_rng(1)
    right, wrong = rng.normal(size=(120, 2)), rng.normal(size=(120, 2)) + [1.0, 0]
    assert graph_discrepancy(wrong, -wrong) > 1.3 * graph_discrepancy(right, -right)


def test_single_point_is_known():
    """One point: g and its derivative at most 1, so |score| + 1."""
    assert graph_discrepancy([[0.3]], [[-2.0]], []) == pytest.approx(3.0)
    assert ksd([[0.3]], [[-2.0]]) == pytest.approx(np.sqrt(4 + 1))  # k = 1 and -2 k' d = 1 at distance 0


def test_bad_input():
    with pytest.raises(SteinError, match=r"must both be .n, d.; got .3, 2. and .4, 2."):
        ksd(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(SteinError, match="must be finite"):
        graph_discrepancy([[np.nan]], [[0.0]])
