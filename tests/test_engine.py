"""Independent runs in worker processes: the same numbers, in the same order, and the same errors."""

import os
import subprocess
import sys

import pytest

from lessons_lib import engine

CODE = """
from lessons_lib import engine, models
from lessons_lib.settings import settings
import torch
from lessons_lib.data import Dataset
from lessons_lib.training import fit

assert settings.engine == "processes"
x, y = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
data = Dataset("toy", x, y, x, y, 3)
shared = dict(seeds=[1, 2, 3], epochs=2, batch_size=8, lr=0.1)
one, other = (fit(lambda: models.mlp(6, 8, 3), data, how=how, **shared) for how in ("together", "one by one"))
print(float(abs(one.history["train_loss"] - other.history["train_loss"]).max()) < 1e-5)
print(engine.map(lambda a, b: a - b, [(3, 1), (5, 1), (7, 1)]))
try:
    engine.map(lambda a: 1 / a, [(1,), (0,)])
except ZeroDivisionError:
    print("raised")
"""


def test_processes_give_what_one_process_gives():
    environment = os.environ | {"LESSONS_ENGINE": "processes", "LESSONS_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["True", "[2, 4, 6]", "raised"], done.stderr


def test_serial_keeps_order_and_raises():
    assert engine.map(lambda a: a * a, [(2,), (3,)]) == [4, 9]
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda a: 1 / a, [(0,)])
