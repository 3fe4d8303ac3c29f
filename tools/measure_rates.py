"""Measure what one core does: the CPU rates in book/scale.yml, from which book/scale.md estimates times.

    python tools/measure_rates.py [WORDS]

Networks of the papers' sizes are trained for a few steps, one thread, and timed in CPU seconds of the process: two
epochs less one, so that setting up and evaluating drop out. It takes about a minute; WORDS choose the rows to measure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import lessons_lib  # noqa: F401  before torch: it sets the number of threads

# isort: split
import torch

from lessons_lib import models
from lessons_lib.data import Dataset
from lessons_lib.training import fit

NETWORKS = {  # kind, network, shape of an input, batch, members, steps
    "wide MLP, one": ("dense", lambda: models.mlp(784, 2048, 2048, 10), (1, 28, 28), 100, 1, 4),
    "wide MLP, four together": ("dense", lambda: models.mlp(784, 2048, 2048, 10), (1, 28, 28), 100, 4, 2),
    "F1, five together": (
        "dense", lambda: models.mlp(784, *[512] * 5, 10, batch_norm=True), (1, 28, 28), 256, 5, 4,
    ),
    "MLP 3x512, five together": ("dense", lambda: models.mlp(2352, 512, 512, 512, 10), (3, 28, 28), 128, 5, 4),
    "C1": ("conv", models.batch_norm_alexnet, (3, 32, 32), 256, 1, 1),
    "small AlexNet": ("conv", models.small_alexnet, (3, 28, 28), 128, 1, 2),
    "small Inception": ("conv", models.small_inception, (3, 28, 28), 128, 1, 1),
    "tiny MLP": ("calls", lambda: models.mlp(12, 10, 7, 5, 4, 3, 2), (12,), 64, 1, 100),
    "tiny MLP, 20 together": ("calls", lambda: models.mlp(12, 10, 7, 5, 4, 3, 2), (12,), 64, 20, 100),
    "twenty layers of 50": ("calls", lambda: models.mlp(784, *[50] * 20, 10), (1, 28, 28), 32, 1, 50),
}  # fmt: skip


def multiply_adds(model: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Of one forward pass for one input, in linear and convolutional layers."""
    work = 0

    def count(layer, inputs, output):
        nonlocal work
        work += output[0].numel() * layer.weight[0].numel()

    for layer in model.modules():
        if hasattr(layer, "weight") and layer.weight is not None and layer.weight.dim() > 1:
            layer.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return work


def seconds(run: Callable[[], object]) -> float:
    """The CPU seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def step_seconds(build, shape, batch, members, steps) -> float:
    """The CPU seconds of one step of all members."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(batch * steps, *shape, generator=generator), torch.zeros(batch * steps, dtype=torch.long)
    data = Dataset("made up", x, y, x[:1], y[:1], 10, "none")

    def train(epochs):
        options = dict(batch_size=batch, lr=1e-3, evaluate_every=epochs, how="together", device="cpu")
        fit(build, data, seeds=range(members), epochs=epochs, **options)

    train(1)  # the first step in a process costs more than the others
    once, twice = seconds(lambda: train(1)), seconds(lambda: train(2))
    return (twice - once) / steps


def main() -> None:
    """Print a line for each network and for each operation of linear algebra."""
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or [""]
    for name, (kind, build, shape, batch, members, steps) in NETWORKS.items():
        if not any(word in name for word in chosen):
            continue
        work = multiply_adds(build(), shape)
        took = step_seconds(build, shape, batch, members, steps)
        rate = 6 * work * batch * members / took  # forward and backward: three times the forward pass
        print(f"{kind:6} {name:26} {work:>13,} multiply-adds  {took * 1e3:9.2f} ms a step  {rate / 1e9:6.1f} GFLOP/s")
    if not any(word in "float64" for word in chosen):
        return
    n = 1_500
    matrix = torch.randn(n, n, dtype=torch.float64)
    matrix = matrix @ matrix.T + n * torch.eye(n, dtype=torch.float64)
    for name, run, flops in (
        ("product", lambda: matrix @ matrix, 2 * n**3),
        ("solve", lambda: torch.linalg.solve(matrix, matrix[0]), 2 / 3 * n**3),
        ("eigenvalues", lambda: torch.linalg.eigvalsh(matrix), 4 / 3 * n**3),
    ):
        took = seconds(run)
        print(f"float64 {name:12} of {n:,} rows  {took:6.2f} s  {flops / took / 1e9:6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
