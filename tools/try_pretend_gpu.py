"""Try the chapters' cells at lesson scale on a pretend GPU (tests/pretend_gpu.py), which refuses what a GPU would.

    python tools/try_pretend_gpu.py             every chapter, most of an hour on one core
    python tools/try_pretend_gpu.py NAME ...    these

The tests run the library on it, but no chapter. Nothing is kept: what a chapter computes is not looked at.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from lessons_lib import notebooks


def run(chapter: notebooks.Chapter) -> str:
    """Run the chapter's cells in this process, up to the first that fails; returns what it raised, or nothing."""
    sys.path.insert(0, str(notebooks.root() / "tests"))
    from IPython.core.interactiveshell import InteractiveShell
    from pretend_gpu import pretend_gpu

    shell = InteractiveShell.instance(colors="nocolor", xmode="Plain")
    cells = [cell.source for cell in notebooks.read(chapter.path).cells if cell.cell_type == "code"]
    os.chdir(chapter.path.parent)
    with pretend_gpu():
        for number, source in enumerate(cells, 1):
            result = shell.run_cell(source, silent=True)
            if error := result.error_before_exec or result.error_in_exec:
                return f"code cell {number}: {type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Run them one by one, each in a process of its own; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="NAME")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # one chapter, in this process
    options = parser.parse_args()
    chosen = [notebooks.find(name) for name in options.chapters] or notebooks.chapters()
    if options.here:
        problem = run(chosen[0])
        print(problem, file=sys.stderr)
        return int(bool(problem))
    failed = 0
    for chapter in chosen:
        start = time.perf_counter()
        words = [sys.executable, Path(__file__), chapter.name, "--here"]
        environment = os.environ | {"MPLBACKEND": "agg", "LESSONS_SCALE": "lesson"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        failed += done.returncode != 0
        said = "ran" if done.returncode == 0 else f"FAILED\n{done.stdout[-1500:]}{done.stderr[-500:]}"
        print(f"{chapter.name}: {time.perf_counter() - start:.0f} s, {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
