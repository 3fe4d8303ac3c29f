"""Jobs on the workers of a Dask scheduler (the package ``distributed``: ``pip install 'lessons_lib[cluster]'``).

Large tensors travel apart from the jobs that share them: each goes to the scheduler once, as a task of its own, so
that a worker that takes over another's jobs can have it again.
"""

from __future__ import annotations

import io
import pickle
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import torch

PATIENCE = 60  # seconds for a scheduler, and then for a first worker
APART = 2**18  # bytes from which a tensor travels apart


def computed(address: str, run: Callable[..., Any], first: tuple, jobs: dict[int, tuple]) -> Iterator[tuple[int, Any]]:
    """(index, ``run(*first, job)``) of each job, as soon as it is there.

    Raises EngineError where no scheduler or no worker answers, or where one is lost for good.
    """
    from lessons_lib.engine import EngineError

    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise EngineError(
            f"LESSONS_ENGINE is {address!r}: for a Dask cluster, pip install 'lessons_lib[cluster]'"
        ) from None
    if not jobs:
        return
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise EngineError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}); start one with: dask scheduler"
        ) from None
    done = 0
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise EngineError(
                f"the scheduler at {address} has no worker; start one with: dask worker {address} --nthreads 1"
            ) from None
        futures = _submit(client, run, first, jobs)
        finished = as_completed(list(futures), loop=client.loop, with_results=True, raise_errors=False)
        while True:
            try:
                future, result = next(finished)
            except StopIteration:
                return
            status = future.status
            if status == "finished":
                done += 1
                yield futures[future], result
                continue
            client.cancel(list(futures))
            error = result[1] if isinstance(result, tuple) else result
            if status == "error" and not isinstance(error, KilledWorker):
                raise error
            lost = (
                "workers were killed, one after another, by one job" if status == "error" else "the scheduler is gone"
            )
            raise EngineError(
                f"{lost} ({error}); {done} of {len(jobs)} results are there. Run again: what LESSONS_CACHE keeps is "
                "not computed again."
            ) from None


def _submit(client, run: Callable[..., Any], first: tuple, jobs: dict[int, tuple]) -> dict:
    """A future for each job, and the job's index."""
    pieces: dict[int, tuple[torch.Tensor, Any]] = {}
    batch, futures = uuid.uuid4().hex, {}
    for index, job in jobs.items():
        packed, apart = _pack((first, job))
        for key, tensor in apart.items():
            if key not in pieces:
                name = f"tensor-{batch}-{len(pieces)}"
                pieces[key] = (tensor, client.submit(_same, tensor, key=name))
        held = {str(key): pieces[key][1] for key in apart}
        futures[client.submit(_run, run, packed, held, key=f"job-{batch}-{index}")] = index
    return futures


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _run(run: Callable[..., Any], packed: bytes, held: dict[str, torch.Tensor]) -> Any:
    """In a worker: a job put together again and run."""
    first, job = _Unpacker(io.BytesIO(packed), held).load()
    return run(*first, job)


def _pack(value: Any) -> tuple[bytes, dict[int, torch.Tensor]]:
    """``value`` as bytes, less its large tensors, and those."""
    import cloudpickle

    apart: dict[int, torch.Tensor] = {}

    class Packer(cloudpickle.Pickler):
        def persistent_id(self, item):
            if type(item) is torch.Tensor and not item.requires_grad and item.nbytes >= APART:
                apart[id(item)] = item
                return str(id(item))
            return None

    buffer = io.BytesIO()
    Packer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue(), apart


class _Unpacker(pickle.Unpickler):
    """Reads what ``_pack`` wrote in the caller's process."""

    def __init__(self, file, held: dict[str, torch.Tensor]):
        super().__init__(file)
        self.held = held

    def persistent_load(self, key):
        """The tensor that travelled apart under ``key``."""
        return self.held[key]
