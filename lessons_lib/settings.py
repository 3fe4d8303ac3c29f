"""What a run of the book depends on, read once from the environment.

=================  ================================================  =====================================
variable           values                                            default
=================  ================================================  =====================================
LESSONS_SCALE      ``lesson``, ``paper``                             ``lesson``
LESSONS_SEED       an integer from 0 to 2**32 - 1                    ``0``
LESSONS_DATA       the folder that holds, or receives, data          ``data`` in the working directory
LESSONS_DEVICE     ``auto``, ``cpu``, ``cuda``, ``mps``              ``auto``
LESSONS_PRECISION  ``full``, ``mixed`` (bfloat16 while training)     ``full``
LESSONS_ENGINE     ``serial``, ``processes``, ``tcp://host:port``    ``serial``
LESSONS_CACHE      a folder that keeps results of independent runs   none; a ``run`` of a chapter has its own
LESSONS_THREADS    threads of one process, 1 or more                 1 (paper: all cores)
=================  ================================================  =====================================

Every random draw in the book comes from a generator made here from the base seed and a name, so two
cells never share a stream, running one cell twice changes nothing elsewhere, and another
``LESSONS_SEED`` changes every draw.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lessons_lib import default_threads

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

SCALES = ("lesson", "paper")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("full", "mixed")
ENGINES = ("serial", "processes")
_SCHEDULER = re.compile(r"(tcp|tls)://[^/\s:]+:\d{1,5}")


class SettingsError(ValueError):
    """A LESSONS_* variable has a value the book cannot use."""


@dataclass(frozen=True)
class Settings:
    """The settings in force.

    ``device_choice`` is what was asked for; ``device`` resolves ``auto`` to the best device present.
    """

    scale: str = "lesson"
    seed: int = 0
    data: Path = Path("data")
    device_choice: str = "auto"
    precision: str = "full"
    engine: str = "serial"
    threads: int = 1
    cache: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the LESSONS_* variables; an empty one counts as unset.

        Raises SettingsError naming the variable, its value and the allowed ones.
        """
        return cls(
            scale=_one_of(environment, "LESSONS_SCALE", SCALES),
            seed=_integer(environment, "LESSONS_SEED", default=0, low=0, high=2**32 - 1),
            data=Path(environment.get("LESSONS_DATA") or "data").expanduser(),
            device_choice=_one_of(environment, "LESSONS_DEVICE", DEVICES),
            precision=_one_of(environment, "LESSONS_PRECISION", PRECISIONS),
            engine=_engine(environment),
            threads=_integer(environment, "LESSONS_THREADS", default=default_threads(), low=1, high=1024),
            cache=Path(folder).expanduser() if (folder := environment.get("LESSONS_CACHE")) else None,
        )

    @cached_property
    def device(self) -> torch.device:
        """The torch device; raises SettingsError where the one asked for is absent."""
        import torch

        present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.device_choice == "auto":
            return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
        if not present[self.device_choice]:
            here = ", ".join(name for name, there in present.items() if there)
            raise SettingsError(
                f"LESSONS_DEVICE is {self.device_choice!r}, but this machine has only: {here}. "
                "Set it to one of those, or to 'auto'."
            )
        return torch.device(self.device_choice)

    def __str__(self) -> str:
        device = f"{self.device}" + (" (mixed precision)" if self.precision == "mixed" else "")
        return f"scale {self.scale} · seed {self.seed} · device {device} · engine {self.engine}"


def _one_of(environment: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = environment.get(name) or allowed[0]
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}; it must be one of: {', '.join(allowed)}.")
    return value


def _engine(environment: Mapping[str, str]) -> str:
    value = environment.get("LESSONS_ENGINE") or ENGINES[0]
    if value not in ENGINES and not _SCHEDULER.fullmatch(value):
        raise SettingsError(
            f"LESSONS_ENGINE is {value!r}; it must be one of: {', '.join(ENGINES)}, or the address of a Dask "
            "scheduler, as tcp://host:8786."
        )
    return value


def _integer(environment: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    text = environment.get(name) or str(default)
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise SettingsError(f"{name} is {text!r}; it must be an integer from {low} to {high}.")
    return value


settings = Settings.from_environment()


def scale(*, lesson: T, paper: T) -> T:
    """The value for the scale in force: ``scale(lesson=1_000, paper=50_000)``."""
    return {"lesson": lesson, "paper": paper}[settings.scale]


def _sequence(names: tuple[object, ...], base: int | None) -> np.random.SeedSequence:
    # Hashed, not Python's hash(): that one changes from process to process.
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in (0, 4, 8))
    return np.random.SeedSequence(settings.seed if base is None else base, spawn_key=key)


def seed_for(*names: object, base: int | None = None) -> int:
    """A 63-bit seed for the use that ``names`` describe, e.g. ``seed_for("random labels", 3)``.

    ``base`` stands in for LESSONS_SEED.
    """
    return int(_sequence(names, base).generate_state(1, np.uint64)[0] >> 1)


def seeds(n: int, *names: object, base: int | None = None) -> list[int]:
    """``n`` independent seeds for the use that ``names`` describe, one for each run of an experiment."""
    return [seed_for(*names, index, base=base) for index in range(n)]


def numpy_generator(*names: object, base: int | None = None) -> np.random.Generator:
    """A numpy generator of its own for the use that ``names`` describe."""
    return np.random.default_rng(_sequence(names, base))


def torch_generator(*names: object, base: int | None = None) -> torch.Generator:
    """A CPU torch generator of its own for the use that ``names`` describe.

    Always on the CPU: the draws are then the same whichever device computes.
    """
    import torch

    return torch.Generator().manual_seed(seed_for(*names, base=base))
