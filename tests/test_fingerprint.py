"""Fingerprints: equal for equal inputs in any process, different for any difference that could change a result."""

import functools
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.fingerprint import FingerprintError, Fingerprints, code_version


def of(*values):
    return Fingerprints().of(*values)


@dataclass(frozen=True)
class Recipe:
    rate: float
    data: torch.Tensor


def scaled(factor):
    return lambda x: factor * x


def test_equal_values_have_equal_fingerprints():
    def make():
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        net.load_state_dict({"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3)})
        return [
            {"a": [1, 2.5, None], "b": {3, 4}},
            Recipe(0.1, torch.arange(6.0)),
            np.arange(3),
            functools.partial(scaled, 2),
            scaled(3),
            torch.float32,
            torch.Generator().manual_seed(3),
            net,
        ]

    for one, other in zip(make(), make(), strict=True):
        assert of(one) == of(other), one


DIFFERENT = [
    (1, 1.0),
    (1, True),
    ("1", 1),
    ([1, 2], (1, 2)),
    ([[1], 2], [[1, 2]]),
    ({"a": 1}, {"a": 2}),
    (Recipe(0.1, torch.arange(6.0)), Recipe(0.1, torch.arange(6.0) + 1)),
    (Recipe(0.1, torch.arange(6.0)), Recipe(0.1, torch.arange(6.0).view(2, 3))),
    (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    (np.zeros(2), torch.zeros(2)),
    (scaled(2), scaled(3)),
    (lambda x: x + 1, lambda x: x + 2),
    (lambda x, y=1: x, lambda x, y=2: x),
    (functools.partial(scaled, 2), functools.partial(scaled, 3)),
    (nn.Linear, nn.Conv2d),
    (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
]


@pytest.mark.parametrize("one, other", DIFFERENT, ids=range(len(DIFFERENT)))
def test_different_values_have_different_fingerprints(one, other):
    assert of(one) != of(other)


NOTEBOOK = """
from functools import cache
from lessons_lib.fingerprint import Fingerprints
from torch import nn
{comment}
width = {width}
def inner(x): return x * {factor}
@cache
def kept(x): return x + {offset}
class Net(nn.Module):
    def forward(self, x): return inner(kept(x))
def build():
    return [Net(), width] if inner else build()
print(Fingerprints().of(build, Net, lambda: build()))
"""


def test_a_notebooks_function_counts_as_its_code_and_what_it_reaches():
    def told(comment="", width=3, factor=2, offset=1, seed="0"):
        code = NOTEBOOK.format(comment=comment, width=width, factor=factor, offset=offset)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout

    first = told()
    assert told(comment="# lines move\n\n", seed="7") == first
    assert len({first, told(width=4), told(factor=3), told(offset=2)}) == 4


def test_what_cannot_be_told_apart_is_refused_by_name():
    with pytest.raises(FingerprintError, match="a lock cannot be told"):
        of({"lock": threading.Lock()})


def test_the_library_and_what_computes_with_it_have_a_version(monkeypatch):
    before = code_version()
    assert before == code_version()
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert code_version() != before
