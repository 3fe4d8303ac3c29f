"""A batched ensemble against what a student would write, and against a careful loop.

The student's loop: one model after another, a DataLoader, ``torch.optim.SGD``. The careful loop: the same on
tensors in memory, with a permutation an epoch. All see the same data for the same number of steps. The loops
never evaluate; ``fit`` always does, before the first step and after the last, and that counts against it.
"""

from __future__ import annotations

import sys
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import harness
from lessons_lib import models
from lessons_lib.data import Dataset
from lessons_lib.settings import seed_for
from lessons_lib.training import fit

TITLE = "Training an ensemble"


def students_loop(build, data, seeds, epochs, batch_size):
    """One model after another with a DataLoader."""
    for seed in seeds:
        torch.manual_seed(seed)
        model = build()
        loader = DataLoader(TensorDataset(data.x_train, data.y_train), batch_size=batch_size, shuffle=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()


def in_memory_loop(build, data, seeds, epochs, batch_size):
    """One model after another on tensors in memory, in the order in which ``fit`` takes them; gives the models."""
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        model = build()
        order = torch.Generator().manual_seed(seed_for("batches", seed))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(epochs):
            for index in torch.randperm(len(data.x_train), generator=order).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
                optimizer.step()
        found.append(model)
    return found


def ours(how):
    """``fit`` as the book calls it, evaluated twice; the test set is one sample."""

    def run(build, data, seeds, epochs, batch_size):
        return fit(
            build, data, seeds=seeds, epochs=epochs, batch_size=batch_size, lr=0.05,
            evaluate_every=epochs, how=how,
        )  # fmt: skip

    return run


def random_data(shape, n):
    """Standard normal inputs with random labels: the steps cost the same whatever the labels."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, *shape, generator=generator), torch.randint(10, (n,), generator=generator)
    return Dataset("random", x, y, x[:1], y[:1], 10)


def mlp():
    """The small MLP of the MNIST-1D paper."""
    return nn.Sequential(nn.Flatten(), models.mlp(40, 100, 100, 10))


def small_images_cnn():
    """A quarter of the small AlexNet for images of 3x28x28."""
    return models.small_alexnet(width=0.25)


def agreement(build, data, batch_size) -> str:
    """How far the careful loop and the batched ensemble are apart after one epoch of the same steps."""
    seeds = range(2)
    flat = nn.utils.parameters_to_vector
    start = in_memory_loop(build, data, seeds, 0, batch_size)
    theirs = in_memory_loop(build, data, seeds, 1, batch_size)
    own = ours("together")(build, data, seeds, 1, batch_size)
    off = max(float((flat(own.model("all", k).parameters()) - flat(theirs[k].parameters())).abs().max()) for k in seeds)
    moved = max(float((flat(start[k].parameters()) - flat(theirs[k].parameters())).abs().max()) for k in seeds)
    assert off < 1e-3 * moved, f"weights differ by {off:.1e}; they moved by {moved:.1e}"
    return f"After one epoch the weights differ by {off:.0e} at most; they moved by up to {moved:.1g}."


VARIANTS = {
    "student's loop (DataLoader)": students_loop,
    "in-memory loop": in_memory_loop,
    "fit, left to choose": ours("auto"),
    "fit, together": ours("together"),
}

CASES = [
    # title, network, input, members, batch, steps an epoch, epochs, aims against (student's loop, in-memory loop)
    ("32 MLPs 40-100-100-10, batch 64", mlp, (1, 40), 32, 64, 20, 8, (8, 5)),
    ("16 small 1-D conv nets, batch 64", models.mnist1d_cnn, (1, 40), 16, 64, 10, 6, (None, 2)),
    ("8 small 2-D conv nets on 8x8 images, batch 64", models.digits_cnn, (1, 8, 8), 8, 64, 10, 8, (None, 1.6)),
    ("large batches: 8 small 2-D conv nets, batch 512", models.digits_cnn, (1, 8, 8), 8, 512, 2, 5, (None, None)),
    ("large images: 4 conv nets on 3x28x28, batch 64", small_images_cnn, (3, 28, 28), 4, 64, 2, 5, (None, None)),
]


def run(suite: harness.Suite) -> None:
    """Compare."""
    for title, build, shape, members, batch_size, steps, epochs, aims in CASES:
        data = random_data(shape, steps * batch_size)
        arguments = (build, data, range(members), epochs, batch_size)
        chosen = ours("auto")(build, data, range(2), 1, batch_size).how
        # Where fit trains in one batched pass anyway, its own choice would be one variant twice.
        variants = {name: work for name, work in VARIANTS.items() if chosen != "together" or "choose" not in name}
        suite.compare(
            title,
            {name: partial(work, *arguments) for name, work in variants.items()},
            aims=dict(zip(VARIANTS, (*aims, None), strict=False)),
            accuracy=agreement(build, data, batch_size),
            unit="ms per model and step",
            per=members * epochs * steps / 1000,
        )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
