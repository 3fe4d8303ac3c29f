"""The students of Urban et al. 2017, and the stored search for the best of each kind.

Urban, Geras, Ebrahimi Kahou, Aslan, Wang, Caruana, Mohamed, Philipose and Richardson, *Do Deep Convolutional Nets
Really Need to be Deep and Convolutional?* (ICLR 2017, arXiv:1603.05691). ``python tools/search_students.py``
repeats the search and writes ``students.json``; ``stored`` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources

import torch
from torch import Tensor, nn

from lessons_lib.data import Dataset
from lessons_lib.ensemble import Ensemble
from lessons_lib.models import conv_student
from lessons_lib.optimizers import cosine, warm_up
from lessons_lib.training import Runs, cross_entropy, fit, squared_error

TARGETS = ("logits", "labels")
BATCH_SIZE = 100


@dataclass(frozen=True)
class Cell:
    """One kind of student, with a search of its own: convolutions, hidden layers (None: any), weights, targets."""

    n_conv: int
    n_hidden: int | None
    budget: int
    targets: str = "logits"


@dataclass(frozen=True)
class Trial:
    """The hyper-parameters of one student; ``accuracy`` is what it reached on the search's validation set."""

    n_conv: int
    n_hidden: int
    budget: int
    channels: int
    lr: float
    weight_decay: float
    dropout: float
    accuracy: float = float("nan")

    def build(self, shape: Sequence[int] = (1, 40)) -> nn.Sequential:
        """The student itself, on inputs of this shape."""
        return conv_student(
            shape=shape, n_conv=self.n_conv, n_hidden=self.n_hidden, channels=self.channels,
            budget=self.budget, dropout=self.dropout,
        )  # fmt: skip


def train(
    trial: Trial,
    data: Dataset | Callable[[int], Dataset],
    *,
    seeds: Sequence[int],
    steps: int,
    description: str = "students",
) -> Runs:
    """Train one student a seed: on classes by cross-entropy, on logits (float targets) by squared error.

    ``data`` are what all train on, or a function that gives each seed its own. Adam, ``steps`` of batches of 100,
    rounded to whole epochs; the rate rises for a quarter of them and then falls by a cosine to zero. Without the
    rise, one in ten students with convolutions collapses at the best rates.
    """
    example = data(seeds[0]) if callable(data) else data
    epochs = max(1, round(steps * BATCH_SIZE / len(example.y_train)))
    return fit(
        lambda: trial.build(example.shape), data, seeds=seeds, epochs=epochs, batch_size=BATCH_SIZE, lr=trial.lr,
        weight_decay=trial.weight_decay, optimizer="adam",
        schedule=warm_up(epochs / 4, cosine(epochs)), evaluate_every=epochs,
        loss=squared_error if example.y_train.is_floating_point() else cross_entropy, description=description,
    )  # fmt: skip


@torch.no_grad()
def logits(models: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Outputs [K, n, classes] of K networks of one architecture, in pieces."""
    ensemble = Ensemble(models)
    return torch.cat([ensemble(piece.expand(len(models), *piece.shape)) for piece in x.split(1_000)], 1)


def accuracy(models: Sequence[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """Accuracy [K] of K networks of one architecture."""
    return (logits(models, x).argmax(-1) == y).double().mean(1)


def standardized(values: Tensor) -> Tensor:
    """A teacher's logits [n, classes] with mean 0 and standard deviation 1 over all, as students regress on them."""
    return (values - values.mean()) / values.std()


def stored() -> tuple[dict, dict[Cell, list[Trial]]]:
    """The stored search: its settings, and the trials of each cell in the order in which they were made."""
    text = resources.files(__package__).joinpath("students.json").read_text(encoding="utf-8")
    record = json.loads(text)
    cells = {
        Cell(**cell["cell"]): [Trial(**(cell["fixed"] | trial)) for trial in cell["trials"]] for cell in record["cells"]
    }
    return record["settings"], cells


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest validation accuracy; the first of several."""
    return max(trials, key=lambda trial: trial.accuracy)


def as_record(cells: dict[Cell, list[Trial]], settings: dict) -> dict:
    """What ``stored`` reads back."""
    fixed = ("n_conv", "budget")
    rows = []
    for cell, trials in cells.items():
        drawn = [{key: value for key, value in asdict(trial).items() if key not in fixed} for trial in trials]
        rows.append({"cell": asdict(cell), "fixed": {"n_conv": cell.n_conv, "budget": cell.budget}, "trials": drawn})
    return {"settings": settings, "cells": rows}
