"""A batched ensemble against what a student would write, and against a careful loop.

The student's loop: one model after another, a DataLoader, ``torch.optim.SGD``. The careful loop: the same on
tensors in memory, with a permutation an epoch. All see the same data for the same number of steps. The loops
never evaluate; ``fit`` always does, before the first step and after the last, and that counts against it.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harness import compare
from lessons_lib import models
from lessons_lib.data import Dataset
from lessons_lib.training import fit


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
    """One model after another on tensors in memory."""
    for seed in seeds:
        torch.manual_seed(seed)
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(epochs):
            for index in torch.randperm(len(data.x_train)).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
                optimizer.step()


def ours(how):
    """``fit`` as the book calls it, evaluated once, on a test set of one sample."""

    def run(build, data, seeds, epochs, batch_size):
        fit(
            build, data, seeds=seeds, epochs=epochs, batch_size=batch_size, lr=0.05,
            evaluate_every=epochs, how=how,
        )  # fmt: skip

    return run


def random_data(shape, n):
    """Standard normal inputs with random labels: the steps cost the same whatever the labels."""
    x, y = torch.randn(n, *shape), torch.randint(10, (n,))
    return Dataset("random", x, y, x[:1], y[:1], 10)


def mlp():
    """The small MLP of the MNIST-1D paper."""
    return nn.Sequential(nn.Flatten(), models.mlp(40, 100, 100, 10))


VARIANTS = {
    "student's loop (DataLoader)": students_loop,
    "in-memory loop": in_memory_loop,
    "fit, one by one": ours("one by one"),
    "fit, together": ours("together"),
}

CASES = [
    # title, network, input, members, batch, aims against (student's loop, in-memory loop)
    ("32 MLPs 40-100-100-10, batch 64", mlp, (1, 40), 32, 64, (8, 5)),
    ("32 small 1-D conv nets, batch 64", models.mnist1d_cnn, (1, 40), 32, 64, (None, 2)),
    ("8 small 2-D conv nets on 8x8 images, batch 64", models.digits_cnn, (1, 8, 8), 8, 64, (None, None)),
    ("where it does not pay: 8 small 2-D conv nets, batch 512", models.digits_cnn, (1, 8, 8), 8, 512, (None, None)),
]


def main():
    """Run the cases and say whether the aims were reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    reached = True
    for title, build, shape, members, batch_size, aims in CASES:
        epochs = 5
        data = random_data(shape, 20 * batch_size)
        arguments = (build, data, range(members), epochs, batch_size)
        reached &= compare(
            title,
            {name: partial(work, *arguments) for name, work in VARIANTS.items()},
            baselines=dict(zip(VARIANTS, (*aims, None), strict=False)),
            rounds=rounds,
            unit="ms per model and step",
            per=members * epochs * 20 / 1000,
        )
    print("\nevery aim reached" if reached else "\nan aim was missed")


if __name__ == "__main__":
    main()
