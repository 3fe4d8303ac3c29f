"""Eigenvalues, density and the whole Hessian against what a user would pick instead.

PyHessian and curvlinops are peers, not dependencies: what is not installed is left out. To have them:
``pip install --no-deps pyhessian curvlinops-for-pytorch backpack-for-pytorch einops einconv linear_operator
jaxtyping wadler-lindig``.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import nn

from benchmarks import harness
from lessons_lib import data, models
from lessons_lib.measures.curvature import Hessian, exact_hessian, exact_spectrum, leading_eigenpairs, spectral_density
from lessons_lib.training import fit

TITLE = "Curvature"


def trained(*sizes, n=1000):
    """A ReLU MLP trained for a while on MNIST-1D, and its data."""
    signals = data.load("mnist1d", n_train=n, n_test=10, seed=0)
    runs = fit(lambda: models.mlp(*sizes), signals, seeds=[0], epochs=20, batch_size=50, lr=0.05, evaluate_every=20)
    return runs.model("all", 0), signals.x_train, signals.y_train


def pyhessian_of(model, x, y):
    """PyHessian's object, mended: its density calls ``torch.eig``, which torch no longer has."""
    import pyhessian

    def eig(matrix, eigenvectors):
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors

    torch.eig = eig
    return pyhessian.hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False)


def top_five(suite, model, x, y):
    """Name -> the five largest eigenvalues; ours last."""
    variants = {}
    if suite.has("pyhessian"):
        for name, options in {
            "PyHessian, default": {},
            "PyHessian, tol 1e-6": dict(tol=1e-6, maxIter=1000),
        }.items():
            variants[name] = lambda options=options: pyhessian_of(model, x, y).eigenvalues(top_n=5, **options)[0]
    if suite.has("curvlinops"):
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


def densities(suite, model, x, y):
    """Name -> 60 steps from 4 probes; ours last."""
    variants = {}
    if suite.has("pyhessian"):
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

    slope, eye = torch.func.grad(loss), torch.eye(len(weights))
    product = torch.vmap(lambda v: torch.func.jvp(slope, (weights,), (v,))[1], chunk_size=64)
    return {
        "torch.func.hessian": lambda: torch.func.hessian(loss)(weights),
        "vmap of jvp of grad, 64 at once": lambda: product(eye),
        "exact_hessian": lambda: exact_hessian(model, x, y),
    }


def spectra(model, x, y):
    """Name -> all eigenvalues, ascending; ours last."""
    theirs = whole(model, x, y)["torch.func.hessian"]
    return {
        "torch.func.hessian, numpy's eigvalsh": lambda: np.linalg.eigvalsh(theirs().double().numpy()),
        "exact_spectrum": lambda: exact_spectrum(model, x, y)[::-1],
    }


def run(suite: harness.Suite) -> None:
    """Compare."""
    large, small = trained(40, 100, 100, 10), trained(40, 25, 18, 10)
    sizes = [f"{models.parameter_count(network[0]):,} weights" for network in (small, large)]

    model, x, y = large
    exact = leading_eigenpairs(Hessian(model.double(), x.double(), y), 5, tolerance=1e-10)[0]
    model.float()
    variants = top_five(suite, *large)
    errors = {name: np.abs(np.array(work(), dtype=float) / exact - 1).max() for name, work in variants.items()}
    told = "; ".join(f"{name} {error:.0e}" for name, error in errors.items())
    suite.compare(
        f"five largest eigenvalues: {sizes[1]}, {len(x):,} samples",
        variants,
        aims={"PyHessian, default": None, "PyHessian, tol 1e-6": 5, "curvlinops with eigsh": 2},
        accuracy=f"Largest relative error against double precision: {told}.",
    )

    for network, size in zip((small, large), sizes, strict=True):
        variants = densities(suite, *network)
        truth = float(np.trace(exact_hessian(*small))) / models.parameter_count(small[0]) if network is small else None
        own = variants["spectral_density"]().moment(1)
        accuracy = f"Mean eigenvalue by ours {own.mean():.3f}, probes scatter by {own.std(ddof=1):.3f}"
        accuracy += f"; exactly {truth:.3f}." if truth else "."
        suite.compare(f"spectral density: {size}", variants, aims={"PyHessian": 1.5}, accuracy=accuracy)

    for title, variants, aims in (
        ("whole Hessian", whole(*small), {"torch.func.hessian": 2, "vmap of jvp of grad, 64 at once": None}),
        ("all eigenvalues", spectra(*small), {"torch.func.hessian, numpy's eigvalsh": None}),
    ):
        *theirs, own = (np.asarray(work()) for work in variants.values())
        off = max(np.abs(other - own).max() for other in theirs) / np.abs(own).max()
        assert off < 1e-5, f"{title}: the results differ by {off:.1e}"
        told = f"The results differ by {off:.0e} of the largest number."
        suite.compare(f"{title}: {sizes[0]}", variants, aims=aims, accuracy=told)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
