"""How cost grows: CPU seconds against ensemble members, parameters, samples and points, as slopes of log on log.

Each size is timed once a round, the rounds follow each other, and each gives a slope by least squares: what is told is
their mean with its 95% t interval over rounds. A straight line is an approximation, since a fixed overhead flattens
the beginning, so the slope between the two largest sizes stands beside it. On Linux the memory that the work takes
beyond what the process held before is noted as well.
"""

from __future__ import annotations

import ctypes
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks import dual_kernels, harness, training
from benchmarks.curvature import trained
from lessons_lib import models
from lessons_lib.measures.curvature import Hessian, exact_hessian, leading_eigenpairs
from lessons_lib.measures.stein import ksd
from lessons_lib.theory.dual_kernels import compositional_kernel, fully_connected


class Slope(NamedTuple):
    """Mean slope of log time on log size over rounds, its 95% interval, and the mean slope at the two largest sizes."""

    mean: float
    low: float
    high: float
    end: float


def slope(sizes: Sequence[float], seconds: Sequence[Sequence[float]]) -> Slope:
    """The growth of ``seconds`` [rounds][sizes], two rounds or more, with ``sizes``, in ascending order."""
    x, times = np.log(sizes), np.log(np.asarray(seconds))
    slopes = np.polyfit(x, times.T, 1)[0]
    half = student.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / np.sqrt(len(slopes))
    end = (times[:, -1] - times[:, -2]).mean() / (x[-1] - x[-2])
    return Slope(*(float(value) for value in (slopes.mean(), slopes.mean() - half, slopes.mean() + half, end)))


def peak_memory(work: Callable[[], object]) -> int | None:
    """Bytes that ``work`` takes at its peak beyond what the process holds before; None where Linux does not tell."""
    try:
        # What was freed and kept would hide what is taken.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        work()
        return max(_status("VmHWM") - before, 0)
    except (OSError, AttributeError):
        return None


def _status(name: str) -> int:
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


@dataclass(frozen=True)
class Series:
    """One line of the figure: works by size, ascending; ``against`` says what the size counts."""

    panel: str
    name: str
    against: str
    works: Mapping[int, Callable[[], object]]

    def record(self, rounds: int) -> dict[str, Any]:
        """Time it and fit the slope, as JSON knows it."""
        torch.set_num_threads(1)
        memory = []
        for work in self.works.values():
            work()
            memory.append(peak_memory(work))
        times = [[_seconds(work) for work in self.works.values()] for _ in range(rounds)]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        points = [
            {"size": size, "seconds": float(f"{seconds:.4g}"), "bytes": held}
            for size, seconds, held in zip(self.works, medians, memory, strict=True)
        ]
        fitted = {name: round(value, 3) for name, value in slope(list(self.works), times)._asdict().items()}
        told = {"panel": self.panel, "name": self.name, "against": self.against, "rounds": rounds}
        return {**told, "points": points, "slope": fitted}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _ensemble(how: Callable, members: int, n: int = 320, hidden: int = 100) -> Callable[[], object]:
    """Two epochs of MLPs on ``n`` samples in batches of 64."""
    build = lambda: models.mlp(40, hidden, hidden, 10)  # noqa: E731
    return lambda: how(build, training.random_data((40,), n), range(members), 2, 64)


def series() -> list[Series]:
    """Everything that is timed; networks are trained here, outside the timing."""
    together, loop = training.ours("together"), training.in_memory_loop
    of_width = {
        hidden: models.parameter_count(models.mlp(40, hidden, hidden, 10)) for hidden in (25, 50, 100, 200, 400)
    }
    networks = [trained(40, hidden, hidden, 10, n=500) for hidden in (25, 50, 100, 200)]
    small = [trained(40, hidden, hidden, 10, n=500) for hidden in (8, 14, 22, 34)]
    samples = {n: np.random.default_rng(0).normal(size=(n, 10)) for n in (500, 1000, 2000, 4000, 8000)}
    spheres = {n: dual_kernels.sphere(n) for n in (250, 500, 1000, 2000, 4000)}
    skeleton = fully_connected("relu", dual_kernels.LAYERS)

    def of_networks(found, work):
        return {models.parameter_count(network[0]): lambda network=network: work(*network) for network in found}

    return [
        Series(
            "Training, by networks", "trained together", "networks",
            {k: _ensemble(together, k) for k in (2, 4, 8, 16, 32, 64)},
        ),
        Series(
            "Training, by networks", "one after another", "networks",
            {k: _ensemble(loop, k) for k in (2, 4, 8, 16, 32)},
        ),
        Series(
            "Training, by weights", "8 together", "weights of a network",
            {size: _ensemble(together, 8, hidden=hidden) for hidden, size in of_width.items()},
        ),
        Series(
            "Training, by weights", "8 one after another", "weights of a network",
            {size: _ensemble(loop, 8, hidden=hidden) for hidden, size in of_width.items()},
        ),
        Series(
            "Training, by samples", "8 together", "samples",
            {n: _ensemble(together, 8, n) for n in (160, 320, 640, 1280, 2560)},
        ),
        Series(
            "Curvature, by weights", "five largest eigenpairs", "weights",
            of_networks(networks, lambda *network: leading_eigenpairs(Hessian(*network), 5)),
        ),
        Series("Curvature, by weights", "whole Hessian", "weights", of_networks(small, exact_hessian)),
        Series(
            "Kernels, by points", "Stein discrepancy (10 dimensions)", "points",
            {n: lambda x=x: ksd(x, -x) for n, x in samples.items()},
        ),
        Series(
            "Kernels, by points", "kernel of 3 layers", "points",
            {n: lambda x=x: compositional_kernel(skeleton, x) for n, x in spheres.items()},
        ),
    ]  # fmt: skip


def run(rounds: int) -> list[dict[str, Any]]:
    """The record of each series, each printed as it comes."""
    found = []
    print("\nslopes of log time on log size, mean over rounds with 95% interval", flush=True)
    for one in series():
        record = one.record(rounds)
        found.append(record)
        first, last = record["points"][0], record["points"][-1]
        print(
            f"  {one.panel + ': ' + one.name:<60} {first['size']:>6,} .. {last['size']:>7,} {one.against:<20} "
            "{mean:5.2f} [{low:.2f}, {high:.2f}]; at the end {end:.2f}".format(**record["slope"]),
            flush=True,
        )
    return found


if __name__ == "__main__":
    run(max(harness.parser(__doc__).parse_args().rounds, 2))
