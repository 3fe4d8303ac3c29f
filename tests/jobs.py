"""Jobs for the engine's tests, run by name in processes of their own: each notes in a folder that it was begun."""

import functools
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import torch


@functools.cache
def doubled(number: int) -> int:
    """Twice the number."""
    return 2 * number


def slow_square(number: int, notes: str, seconds: float = 0.3) -> dict:
    """A result that takes a while; a line in ``notes`` says which process began it."""
    with open(Path(notes) / f"{number}", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return {"square": number**2, "pid": os.getpid()}


def kills_its_process_once(number: int, notes: str) -> dict:
    """As ``slow_square``, but the first that takes number 2 dies in it."""
    if number == 2 and not (Path(notes) / "2").exists():
        slow_square(number, notes, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    return slow_square(number, notes)


def kills_its_process(number: int, notes: str) -> dict:
    """As ``slow_square``, but number 2 is never done."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return slow_square(number, notes)


def told(size: int) -> dict:
    """The settings in force where the job runs, and a draw that depends on them."""
    from lessons_lib.settings import settings, torch_generator

    draw = torch.randn(size, generator=torch_generator("a job"))
    return {"seed": settings.seed, "scale": settings.scale, "engine": settings.engine, "draw": draw}


def times_begun(notes: Path) -> dict[int, int]:
    """How often each job was begun."""
    return {int(path.name): len(path.read_text().splitlines()) for path in notes.iterdir()}


def main(name: str, count: int, notes: str) -> None:
    """Map one of these over ``count`` numbers and print the results, how many were reused, and any warning."""
    from lessons_lib import engine

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = engine.map(globals()[name], [(number, notes) for number in range(count)])
    print([result["square"] for result in results], engine.reused)
    print(*{warning.message for warning in said if "lessons_lib" in warning.filename}, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
