"""The batched maximizer of Keskar's box problem against the paper's procedure, one network after another.

Both take ten iterations. Beside the times stands what matters first: the maximum each finds.
"""

from __future__ import annotations

import sys

from torch import nn

from benchmarks import harness
from lessons_lib import data, models
from lessons_lib.measures.sharpness import box_maximum
from lessons_lib.training import fit

TITLE = "Sharpness"


def batch_norm_mlp():
    """An MLP as the large-batch chapter trains it."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(40, 100), nn.BatchNorm1d(100), nn.ReLU(),
        nn.Linear(100, 100), nn.BatchNorm1d(100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip


def plain_mlp():
    """The small MLP of the MNIST-1D paper."""
    return models.mlp(40, 100, 100, 10)


def run(suite: harness.Suite) -> None:
    """Compare."""
    signals = data.load("mnist1d", n_train=1000, n_test=10, seed=0)
    for build in (plain_mlp, batch_norm_mlp):
        runs = fit(build, signals, seeds=range(8), epochs=20, batch_size=50, lr=1e-3, optimizer="adam")
        networks = [runs.model("all", seed) for seed in range(8)]
        for epsilon in (5e-4, 1e-3):

            def find(maximizer, networks=networks, epsilon=epsilon):
                options = dict(epsilon=epsilon, maximizer=maximizer)
                return box_maximum(networks, signals.x_train, signals.y_train, **options)

            rises = {name: (found := find(name)).loss - found.before for name in ("l-bfgs-b", "corner")}
            shares = rises["corner"] / rises["l-bfgs-b"]
            assert shares.min() > 0.99, f"the corner finds {shares.min():.3f} of the rise that L-BFGS-B does"
            suite.compare(
                f"8 networks, {build.__name__.replace('_', ' ').replace('mlp', 'MLP')}, box {epsilon:g}",
                {"L-BFGS-B, one by one": lambda: find("l-bfgs-b"), "corner, together": lambda: find("corner")},
                aims={"L-BFGS-B, one by one": 8},
                accuracy=f"The loss rises by {shares.min():.4f} to {shares.max():.4f} times what L-BFGS-B finds.",
            )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
