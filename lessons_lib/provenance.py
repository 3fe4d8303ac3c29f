"""Where a run's numbers come from: the commit, the machine, the versions, and what the kernel can tell of itself."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

VERSIONS_OF = ("lessons_lib", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "mnist1d")

# What a run asks its kernel, as one line of code that leaves no name behind.
TELL = "print(__import__('lessons_lib.provenance').provenance.told())"


def told() -> str:
    """What this process alone knows, as JSON.

    ``data``, the data sets it loaded; ``threads``, as torch has them; ``reused``, results of an interrupted run that it
    did not compute again, so that its time is not the whole of it.
    """
    data, torch, engine = (sys.modules.get(name) for name in ("lessons_lib.data", "torch", "lessons_lib.engine"))
    found = {
        "data": data.loaded() if data else [],
        "threads": torch.get_num_threads() if torch else 1,
        "reused": engine.reused if engine else 0,
    }
    return json.dumps(found, ensure_ascii=False)


def commit(book: Path) -> dict | None:
    """``commit``, the hash checked out in ``book``, and ``clean``, whether nothing there differs from it; else None.

    Files that git ignores do not count; those that it has not been told of do.
    """
    try:
        hash, changes = (
            subprocess.run(["git", "-C", book, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": hash, "clean": not changes}


def machine(device: str) -> str:
    """What computed, in the words of its maker: "AMD EPYC, 2 cores (x86_64 Linux)". No name of a host, no path."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores ({platform.machine()} {platform.system()})"


def _processor() -> str:
    """The processor's name, as the operating system has it."""
    try:
        if sys.platform == "linux":
            name = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
            return name[1].strip() if name else platform.machine()
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


def versions(*more: str) -> dict[str, str]:
    """Python's version, and those of the packages that compute, and of ``more``, where they are installed."""
    found = {"python": platform.python_version()}
    for name in (*VERSIONS_OF, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
