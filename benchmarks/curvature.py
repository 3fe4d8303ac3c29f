"""Eigenvalues, density and the whole Hessian against what a user would pick instead.

PyHessian and curvlinops are peers, not dependencies: a case without its peer is left out. To have them:
``pip install --no-deps pyhessian curvlinops-for-pytorch backpack-for-pytorch einops einconv linear_operator
jaxtyping wadler-lindig``.
"""

from __future__ import annotations

import argparse
import importlib.util

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import nn

from benchmarks.harness import compare
from lessons_lib import data, models
from lessons_lib.measures.curvature import Hessian, exact_hessian, leading_eigenpairs, spectral_density
from lessons_lib.training import fit


def trained(*sizes, n=1000):
    """A ReLU MLP trained for a while on MNIST-1D, and its data."""
    signals = data.load("mnist1d", n_train=n, n_test=10, seed=0)
    runs = fit(lambda: models.mlp(*sizes), signals, seeds=[0], epochs=20, batch_size=50, lr=0.05, evaluate_every=20)
    return runs.model("all", 0), signals.x_train, signals.y_train


def peers():
    """Which of the two peers are installed."""
    return {name: importlib.util.find_spec(name) is not None for name in ("pyhessian", "curvlinops")}


def pyhessian_of(model, x, y):
    """PyHessian's object, mended: its density calls ``torch.eig``, which torch no longer has."""
    import pyhessian

    def eig(matrix, eigenvectors):
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors

    torch.eig = eig
    return pyhessian.hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False)


def top_five(model, x, y):
    """Name -> the five largest eigenvalues; ours last."""
    variants = {}
    installed = peers()
    if installed["pyhessian"]:
        for name, options in {
            "PyHessian, default": {},
            "PyHessian, tol 1e-6": dict(tol=1e-6, maxIter=1000),
        }.items():
            variants[name] = lambda options=options: pyhessian_of(model, x, y).eigenvalues(top_n=5, **options)[0]
    if installed["curvlinops"]:
        import curvlinops

        def theirs():
            parameters = list(model.parameters())
            operator = curvlinops.HessianLinearOperator(
                model, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False
            )
            return eigsh(operator.to_scipy(), k=5, which="LA", tol=1e-4)[0][::-1]

        variants["curvlinops with eigsh"] = theirs
    variants["leading_eigenpairs"] = lambda: leading_eigenpairs(Hessian(model, x, y), 5)[0]
    return variants


def densities(model, x, y):
    """Name -> 60 steps from 4 probes; ours last."""
    variants = {}
    if peers()["pyhessian"]:
        variants["PyHessian"] = lambda: pyhessian_of(model, x, y).density(iter=60, n_v=4)
    variants["spectral_density"] = lambda: spectral_density(Hessian(model, x, y), probes=4, steps=60)
    return variants


def whole(model, x, y):
    """Name -> the whole matrix; ours last."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, state, (x,)), y)

    return {
        "torch.func.hessian": lambda: torch.func.hessian(loss)(weights),
        "exact_hessian": lambda: exact_hessian(model, x, y),
    }


def main():
    """Run the cases and say whether the aims were reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    missing = [name for name, there in peers().items() if not there]
    if missing:
        print(f"left out, not installed: {', '.join(missing)}")
    reached = True
    large, small = trained(40, 100, 100, 10), trained(40, 25, 18, 10)

    variants = top_five(*large)
    model, x, y = large
    exact = leading_eigenpairs(Hessian(model.double(), x.double(), y), 5, tolerance=1e-10)[0]
    model.float()
    print(f"\nlargest relative error of five eigenvalues; in float64, tolerance 1e-10, they are {exact.round(3)}")
    for name, work in variants.items():
        print(f"  {name:<42} {np.abs(np.array(work(), dtype=float) / exact - 1).max():.1e}")
    aims = {"PyHessian, default": None, "PyHessian, tol 1e-6": 5, "curvlinops with eigsh": None}
    size = f"{models.parameter_count(model):,} weights, {len(x):,} samples"
    reached &= compare(f"five largest eigenvalues: {size}", variants, baselines=aims, rounds=rounds, unit="s")
    for network in (small, large):
        size = f"{models.parameter_count(network[0]):,} weights"
        reached &= compare(
            f"spectral density: {size}", densities(*network), baselines={"PyHessian": 1.5}, rounds=rounds
        )
    variants = whole(*small)
    theirs, ours = (np.asarray(work()) for work in variants.values())
    print(f"\nlargest difference of the two matrices: {np.abs(theirs - ours).max():.1e}")
    size = f"{models.parameter_count(small[0]):,} weights"
    reached &= compare(f"whole Hessian: {size}", variants, baselines={"torch.func.hessian": 2}, rounds=rounds)
    print("\nevery aim reached" if reached else "\nan aim was missed")


if __name__ == "__main__":
    main()
