"""Time variants of one piece of work against each other, fairly.

Variants alternate within one process, so that a machine that slows down slows all of them; the figure
is CPU time on one thread (two threads on a shared machine measure the neighbours); the ratio is the
median of the ratios within a round, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class Elsewhere(float):
    """What a variant returns that worked in another process: the CPU seconds it took there."""


class Ratio(NamedTuple):
    """How many times as fast ours is: the median over rounds, the smallest and the largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Variants of one piece of work and the CPU seconds that each took in each round; the last variant is ours.

    ``aims`` has the variants that ours is held against, each with the speed-up aimed at, or None where there is no
    aim. Times are shown as seconds / ``per``, in ``unit``. ``accuracy`` says how the results agree.
    """

    title: str
    seconds: Mapping[str, Sequence[float]]
    aims: Mapping[str, float | None]
    accuracy: str = ""
    unit: str = "s"
    per: float = 1.0

    @property
    def ours(self) -> str:
        """The name of the last variant."""
        return list(self.seconds)[-1]

    def ratio(self, name: str) -> Ratio:
        """The speed-up over variant ``name``, from the ratios within a round."""
        pairs = zip(self.seconds[name], self.seconds[self.ours], strict=True)
        ratios = [theirs / own for theirs, own in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def reached(self, name: str) -> bool | None:
        """Whether the median speed-up over ``name`` reached its aim; None where there is none."""
        aim = self.aims.get(name)
        return None if aim is None else self.ratio(name).median >= aim

    def record(self) -> dict[str, Any]:
        """Everything that a reader of the stored results needs, as JSON knows it."""
        rows = []
        for name, seconds in self.seconds.items():
            row = {"name": name, "seconds": _digits(statistics.median(seconds) / self.per)}
            if name in self.aims:
                row["ratio"] = dict(zip(Ratio._fields, map(_digits, self.ratio(name)), strict=True))
                row |= {"aim": self.aims[name], "reached": self.reached(name)}
            rows.append(row)
        rounds = len(self.seconds[self.ours])
        return {"title": self.title, "accuracy": self.accuracy, "unit": self.unit, "rounds": rounds, "rows": rows}

    def __str__(self) -> str:
        lines = [self.title]
        if self.accuracy:
            lines.append(f"  {self.accuracy}")
        for row in self.record()["rows"]:
            line = f"  {row['name']:<42} {row['seconds']:10.4f} {self.unit}"
            if "ratio" in row:
                line += f"   ours is {_ratio(row)} times as fast{_verdict(row)}"
            lines.append(line)
        return "\n".join(lines)


def _digits(value: float) -> float:
    """Four of them: more would be noise."""
    return float(f"{value:.4g}")


def _ratio(row: Mapping[str, Any]) -> str:
    return "{median:5.2f} [{low:.2f} .. {high:.2f}]".format(**row["ratio"])


def _verdict(row: Mapping[str, Any]) -> str:
    return "" if row["aim"] is None else f"   aim {row['aim']:g}: {'reached' if row['reached'] else 'MISSED'}"


def compare(
    title: str,
    variants: Mapping[str, Callable[[], object]],
    *,
    aims: Mapping[str, float | None],
    rounds: int = 5,
    **shown: Any,
) -> Comparison:
    """Time the variants by turns.

    Args:
        title: what the variants do.
        variants: name -> work; the last is ours. Each runs once before it counts.
        aims: name of another variant -> the speed-up aimed at, or None where there is no aim. Names that are no
            variant, because a peer is not installed, do no harm.
        rounds: times that each is run.
        shown: ``accuracy``, ``unit`` and ``per`` of the Comparison.
    """
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, work in variants.items():
            start = time.process_time()
            result = work()
            spent = result if isinstance(result, Elsewhere) else time.process_time() - start
            if turn:
                times[name].append(float(spent))
    return Comparison(title, times, {name: aim for name, aim in aims.items() if name in variants}, **shown)


class Suite:
    """What a run collects: comparisons by group, and the peers it had to leave out.

    ``rounds`` is how often each variant is timed; ``peer`` the python of an environment with neural-tangents, or None.
    """

    def __init__(self, rounds: int = 5, peer: str | None = None):
        self.rounds, self.peer = rounds, peer
        self.groups: dict[str, list[Comparison]] = {}
        self.left_out: list[str] = []

    def run(self, module) -> None:
        """Run the benchmark that is ``module``: its ``TITLE`` names the group, its ``run(suite)`` compares."""
        self.groups[module.TITLE] = []
        module.run(self)

    def compare(self, *arguments, **options) -> Comparison:
        """``compare``, printed and kept."""
        found = compare(*arguments, rounds=self.rounds, **options)
        print(f"\n{found}", flush=True)
        list(self.groups.values())[-1].append(found)
        return found

    def has(self, name: str, there: bool | None = None) -> bool:
        """Whether the peer ``name`` is installed, or ``there``; says so where it is not."""
        there = importlib.util.find_spec(name) is not None if there is None else there
        if not there and name not in self.left_out:
            print(f"left out, not installed: {name}")
            self.left_out.append(name)
        return there

    def table(self) -> str:
        """One table of all ratios: the peer's time, ours, the ratio, the aim, and whether it was reached."""
        lines = [f"{'':<44} {'peer':>10} {'ours':>10}  times as fast"]
        aims = [0, 0]
        for group, comparisons in self.groups.items():
            for found in comparisons:
                rows = found.record()["rows"]
                lines.append(f"\n{group}: {found.title} ({found.unit})")
                for row in (row for row in rows if "ratio" in row):
                    times = f"{row['seconds']:>10.4g} {rows[-1]['seconds']:>10.4g}"
                    lines.append(f"  {row['name']:<42} {times}  {_ratio(row)}{_verdict(row)}")
                    if row["reached"] is not None:
                        aims[row["reached"]] += 1
        return "\n".join([*lines, f"\n{aims[True]} aims reached, {aims[False]} missed"])

    def record(self) -> list[dict[str, Any]]:
        """The groups with their comparisons, as JSON knows them."""
        return [
            {"title": title, "comparisons": [found.record() for found in comparisons]}
            for title, comparisons in self.groups.items()
        ]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--rounds", type=int, default=5, help="how often each variant is timed (5)")
    found.add_argument("--peer", metavar="PYTHON", help="python of an environment that has neural-tangents")
    return found


def main(module) -> None:
    """Run one benchmark from the command line."""
    options = parser(module.__doc__).parse_args()
    torch.set_num_threads(1)
    suite = Suite(options.rounds, options.peer)
    suite.run(module)
    print(f"\n{suite.table()}")
