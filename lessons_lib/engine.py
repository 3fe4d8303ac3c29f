"""Map independent runs over this machine's cores or over a cluster, and keep what is done.

``LESSONS_ENGINE`` says where they are computed: ``serial`` here, one after another; ``processes`` in one worker
process a core (joblib); an address, ``tcp://host:port``, on the workers of the Dask scheduler that listens there.
``LESSONS_CACHE`` names a folder in which each result is kept as soon as it is there, under a fingerprint of its
inputs and of the code: a run that was interrupted computes again only what it was computing at that moment.

Wherever a job runs it has the caller's scale, seed, device and threads, so it gives the caller's numbers.
"""

from __future__ import annotations

import copyreg
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lessons_lib.fingerprint import FingerprintError, Fingerprints, code_version
from lessons_lib.kept_results import KeptResults
from lessons_lib.progress import bar
from lessons_lib.settings import settings

ATTEMPTS = 3  # at what is left of the jobs when worker processes die
_one_job = threading.Lock()

#: Results that were taken from LESSONS_CACHE in this process instead of being computed.
reused = 0


class EngineError(RuntimeError):
    """The engine cannot run the jobs, or cannot go on; the message names the way out."""


def map(
    function: Callable[..., Any],
    jobs: Sequence[tuple],
    description: str = "running",
    *,
    over: str | None = None,
    keep: bool = True,
) -> list[Any]:
    """``[function(*job) for job in jobs]``, in this order, over the engine's workers.

    ``over`` stands in for LESSONS_ENGINE. Where results are kept (``keep`` and LESSONS_CACHE) they must be plain
    data: numbers, text, lists, dicts, tensors. An exception in a job is raised here, once, as it was raised there;
    results of other jobs stay kept.

    Raises:
        EngineError: no scheduler or no worker answers, workers keep dying, or a worker has another lessons_lib.
    """
    kept = _Kept(function, settings.cache if keep else None)
    keys = [kept.key(job) for job in jobs]
    results: list[Any] = [None] * len(jobs)
    with bar(len(jobs), description) as progress:
        waiting = {}
        for index, key in enumerate(keys):
            found, results[index] = kept.get(key)
            if found:
                progress.update(1)
            else:
                waiting[index] = jobs[index]
        for index, result in _computed(over or settings.engine, function, waiting):
            kept.put(keys[index], result)
            results[index] = result
            progress.update(1)
    return results


def call(function: Callable[..., Any], *job: Any, **aside: Any) -> Any:
    """``function(*job, **aside)``, here, or its kept result; ``aside``, as a progress bar, is no part of the inputs."""
    kept = _Kept(function, settings.cache)
    key = kept.key(job)
    found, result = kept.get(key)
    if not found:
        result = function(*job, **aside)
        kept.put(key, result)
    return result


class _Kept:
    """The results of one function in a folder; without one, nothing is kept."""

    def __init__(self, function: Callable[..., Any], folder: Path | None):
        self.function = function
        self.store = KeptResults(folder) if folder else None
        self.fingerprints = Fingerprints()

    def key(self, job: tuple) -> str:
        if self.store is None:
            return ""
        try:
            return self.fingerprints.of(_code(), _told(), self.function, job)
        except FingerprintError as error:
            warnings.warn(f"results of {self.function.__qualname__} are not kept: {error}", stacklevel=4)
            self.store = None
            return ""

    def get(self, key: str) -> tuple[bool, Any]:
        """Whether there is a result, and it."""
        global reused
        held = self.store.get(key) if self.store else None
        reused += held is not None
        return held is not None, None if held is None else held["result"]

    def put(self, key: str, result: Any) -> None:
        if self.store:
            self.store.put(key, {"result": result})


_code = functools.cache(code_version)


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    return functools.lru_cache(**parameters)(function)


def _as_sent(cached: functools._lru_cache_wrapper) -> str | tuple:
    """A notebook's cached function as what it wraps, without its results; one of a module by its name."""
    if cached.__module__ != "__main__" and "<locals>" not in cached.__qualname__:
        return cached.__qualname__
    return _cached, (cached.__wrapped__, cached.cache_parameters())


# By itself pickle would send the name alone, and a worker has no such name.
copyreg.pickle(functools._lru_cache_wrapper, _as_sent)


def _told() -> dict[str, Any]:
    """The caller's settings on which a job's result depends, for whoever computes it."""
    return {name: getattr(settings, name) for name in ("scale", "seed", "device_choice", "precision", "threads")}


def _as_told(told: dict[str, Any], code: str, function: Callable[..., Any], job: tuple) -> Any:
    """Run a job in a worker under the caller's settings."""
    if code != _code():
        raise EngineError(
            "a worker has another lessons_lib, torch or numpy than the caller: install the same there, start the "
            "worker again, and run again"
        )
    with _one_job:  # a worker with several threads: torch's random state is the process's, not the thread's
        before, threads = dict(vars(settings)), torch.get_num_threads()
        vars(settings).pop("device", None)  # it was found for the worker's own choice
        vars(settings).update(told, engine="serial", cache=None)
        torch.set_num_threads(told["threads"])
        try:
            return function(*job)
        finally:
            vars(settings).clear()
            vars(settings).update(before)
            torch.set_num_threads(threads)


def _computed(over: str, function: Callable[..., Any], waiting: dict[int, tuple]) -> Iterator[tuple[int, Any]]:
    """(index, result) of the jobs in ``waiting``, each as soon as it is there."""
    if over == "serial" or (over == "processes" and len(waiting) < 2):
        return ((index, function(*job)) for index, job in waiting.items())
    if over == "processes":
        return _over_processes(function, waiting)
    from lessons_lib import cluster

    return cluster.computed(over, _as_told, (_told(), _code(), function), waiting)


def _numbered(index: int, *arguments: Any) -> tuple[int, Any]:
    return index, _as_told(*arguments)


def _over_processes(function: Callable[..., Any], waiting: dict[int, tuple]) -> Iterator[tuple[int, Any]]:
    total = len(waiting)
    for attempt in range(1, ATTEMPTS + 1):
        parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered")
        told, code = _told(), _code()
        try:
            for index, result in parallel(
                # As a list: jobs are sent while results come in, which are taken out of ``waiting``.
                joblib.delayed(_numbered)(index, told, code, function, job)
                for index, job in list(waiting.items())
            ):
                del waiting[index]
                yield index, result
            return
        except TerminatedWorkerError:
            if attempt == ATTEMPTS:
                raise EngineError(
                    f"worker processes were killed {ATTEMPTS} times, most often for want of memory; "
                    f"{total - len(waiting)} of {total} results are there. Run again with LESSONS_ENGINE=serial, or "
                    "with smaller sizes; what LESSONS_CACHE keeps is not computed again."
                ) from None
            warnings.warn(f"a worker process was killed; computing {len(waiting)} of {total} again", stacklevel=2)
