"""Try the chapters' cells at paper scale, with the small sizes of the first such command under their "Bigger".

    LESSONS_DATA=FOLDER python tools/try_paper_scale.py             every chapter, some 20 minutes on one core
    LESSONS_DATA=FOLDER python tools/try_paper_scale.py NAME ...    these

The tests run chapters at lesson scale alone; other data, networks and sizes can fail where those do not. The runs lie
under runs/ afterwards. Their verdicts mean nothing, and are not shown.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time

from lessons_lib import notebooks


def command(chapter: notebooks.Chapter) -> list[str]:
    """What follows ``python`` in the chapter's first command at paper scale that sets sizes; empty without one."""
    text = "\n".join(cell.source for cell in notebooks.read(chapter.path).cells if cell.cell_type == "markdown")
    _, _, bigger = text.rpartition("## Bigger")
    for found in re.findall(r"^    python (-m lessons_lib run (?:.*\\\n)*.*)$", bigger, re.M):
        if "--scale paper" in found and "--set" in found:
            return shlex.split(found.replace("\\\n", " "))
    return []


def main() -> int:
    """Run them one by one; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="NAME")
    chosen = [notebooks.find(name) for name in parser.parse_args().chapters] or notebooks.chapters()
    failed = 0
    for chapter in chosen:
        if not (words := command(chapter)):
            print(f"{chapter.name}: no command under Bigger", flush=True)
            continue
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *words], cwd=notebooks.root(), capture_output=True, text=True)
        failed += done.returncode != 0
        said = "ran" if done.returncode == 0 else f"FAILED\n{done.stderr.strip()[-2000:]}"
        print(f"{chapter.name}: {time.perf_counter() - start:.0f} s, {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
