"""Try the chapters' cells at paper scale, with the small sizes of the first such command under their "Bigger".

    LESSONS_DATA=FOLDER python tools/try_paper_scale.py             every chapter, some 20 minutes on one core
    LESSONS_DATA=FOLDER python tools/try_paper_scale.py NAME ...    these

The tests run chapters at lesson scale alone; other data, networks and sizes can fail where those do not. The runs lie
under runs/ afterwards. Their verdicts mean nothing, and are not shown.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from lessons_lib import notebooks


def command(chapter: notebooks.Chapter) -> list[str]:
    """What follows ``python`` in the chapter's first command at paper scale that sets sizes; empty without one."""
    text = "\n".join(cell.source for cell in notebooks.read(chapter.path).cells if cell.cell_type == "markdown")
    _, _, bigger = text.rpartition("## Bigger")
    for found in re.findall(r"^    python (-m lessons_lib run (?:.*\\\n)*.*)$", bigger, re.M):
        if "--scale paper" in found and "--set" in found:
            return shlex.split(found.replace("\\\n", " "))
    return []


def try_each(chapters: Iterable[notebooks.Chapter], words_of: Callable, environment: Mapping[str, str]) -> int:
    """Run Python with ``words_of(chapter)``, where there are any, for one chapter after another; 1 if any failed."""
    failed = 0
    for chapter in chapters:
        if not (words := words_of(chapter)):
            print(f"{chapter.name}: no command under Bigger", flush=True)
            continue
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words], cwd=notebooks.root(), env=environment, capture_output=True, text=True
        )
        failed += done.returncode != 0
        said = "ran" if done.returncode == 0 else f"FAILED\n{(done.stdout + done.stderr).strip()[-2000:]}"
        print(f"{chapter.name}: {time.perf_counter() - start:.0f} s, {said}", flush=True)
    return int(failed > 0)


def main() -> int:
    """Run them one by one; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="NAME")
    chosen = [notebooks.find(name) for name in parser.parse_args().chapters] or notebooks.chapters()
    return try_each(chosen, command, os.environ)


if __name__ == "__main__":
    sys.exit(main())
