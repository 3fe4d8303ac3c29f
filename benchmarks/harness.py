"""Time variants of one piece of work against each other, fairly.

Variants alternate within one process, so that a machine that slows down slows all of them; the figure
is CPU time on one thread (two threads on a shared machine measure the neighbours); the ratio is the
median of the ratios within a round, with the smallest and the largest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


class Elsewhere(float):
    """What a variant returns that worked in another process: the CPU seconds it took there."""


def compare(
    title: str,
    variants: Mapping[str, Callable[[], object]],
    *,
    baselines: Mapping[str, float | None],
    rounds: int = 7,
    unit: str = "s",
    per: float = 1.0,
) -> bool:
    """Print a table of median times and of speed-ups of the last variant over each baseline.

    Args:
        title: what the variants do.
        variants: name -> work; the last is ours. Each runs once before it counts.
        baselines: name of another variant -> the speed-up aimed at, or None where there is no aim.
        rounds: times that each is run.
        unit, per: times are shown as seconds / ``per``, in ``unit``.

    Returns:
        Whether every median speed-up reached its aim.
    """
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, work in variants.items():
            start = time.process_time()
            result = work()
            if turn:
                times[name].append(result if isinstance(result, Elsewhere) else time.process_time() - start)
    ours = list(variants)[-1]
    print(f"\n{title}")
    reached = True
    for name, seconds in times.items():
        line = f"  {name:<42} {statistics.median(seconds) / per:10.3f} {unit}"
        if name in baselines:
            ratios = [theirs / own for theirs, own in zip(seconds, times[ours], strict=True)]
            ratio, aim = statistics.median(ratios), baselines[name]
            line += f"   ours is {ratio:5.2f} times as fast [{min(ratios):.2f} .. {max(ratios):.2f}]"
            if aim is not None:
                reached &= ratio >= aim
                line += f"   aim {aim:g}: {'reached' if ratio >= aim else 'MISSED'}"
        print(line, flush=True)
    return reached
