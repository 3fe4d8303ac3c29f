"""Map independent runs over this machine's cores, or one after another.

LESSONS_ENGINE says which: ``serial`` runs them here, ``processes`` in one worker process a core (joblib).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import joblib

from lessons_lib.progress import bar
from lessons_lib.settings import settings


def map(function: Callable[..., Any], jobs: Sequence[tuple], description: str = "running") -> list[Any]:
    """``[function(*job) for job in jobs]``, in this order, over the engine's workers.

    An exception in a job is raised here, once, as it was raised there.
    """
    with bar(len(jobs), description) as progress:
        results = []
        for result in _results(function, jobs):
            results.append(result)
            progress.update(1)
        return results


def _results(function, jobs):
    if settings.engine == "serial" or len(jobs) < 2:
        return (function(*job) for job in jobs)
    # Ordered generator: results arrive while later jobs still run, which is what moves the bar.
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator")
    return parallel(joblib.delayed(function)(*job) for job in jobs)
