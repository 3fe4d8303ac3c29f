"""Try the chapters' cells on a pretend GPU (tests/pretend_gpu.py), which refuses what a GPU would.

    python tools/try_pretend_gpu.py             every chapter at lesson scale, most of an hour on one core
    python tools/try_pretend_gpu.py NAME ...    these
    LESSONS_DATA=FOLDER python tools/try_pretend_gpu.py --paper [NAME ...]
                                                at paper scale, with the small sizes of the command under "Bigger"

The tests run the library on it, but no chapter. Nothing is kept: what a chapter computes is not looked at.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from itertools import pairwise
from pathlib import Path

from try_paper_scale import command, try_each

from lessons_lib import notebooks


def sizes(chapter: notebooks.Chapter) -> dict[str, object]:
    """The parameters that the chapter's command under "Bigger" sets."""
    words = command(chapter)
    pairs = [word.partition("=") for option, word in pairwise(words) if option == "--set"]
    return {name: ast.literal_eval(value) for name, _, value in pairs}


def run(chapter: notebooks.Chapter, parameters: dict[str, object]) -> str:
    """Run the chapter's cells in this process, up to the first that fails; returns what it raised, or nothing."""
    sys.path.insert(0, str(notebooks.root() / "tests"))
    from IPython.core.interactiveshell import InteractiveShell
    from pretend_gpu import pretend_gpu

    shell = InteractiveShell.instance(colors="nocolor", xmode="Plain")
    notebook = notebooks.read(chapter.path)
    if parameters:
        notebooks.inject(notebook, parameters, chapter.name)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
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
    parser.add_argument("--paper", action="store_true", help="at paper scale, with small sizes")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # one chapter, in this process
    options = parser.parse_args()
    chosen = [notebooks.find(name) for name in options.chapters] or notebooks.chapters()
    if options.here:
        problem = run(chosen[0], sizes(chosen[0]) if options.paper else {})
        print(problem, file=sys.stderr)
        return int(bool(problem))

    def words(chapter: notebooks.Chapter) -> list[str]:
        if options.paper and not sizes(chapter):
            return []
        return [str(Path(__file__).resolve()), chapter.name, "--here"] + ["--paper"] * options.paper

    scale = "paper" if options.paper else "lesson"
    return try_each(chosen, words, os.environ | {"MPLBACKEND": "agg", "LESSONS_SCALE": scale})


if __name__ == "__main__":
    sys.exit(main())
