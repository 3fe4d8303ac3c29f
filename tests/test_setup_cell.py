"""A chapter's set-up cell, run where a reader on Colab runs it: torch is there, the book is not.

git's ``url.<local>.insteadOf`` puts this tree in the place of the book's address, and pip is given no index:
whatever the installation needs beyond the tree, the environment must have already, as Colab has.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import book_rules
import nbformat
import pytest
import toys
from book_rules import SETUP_CELL

REPORT = """
import json, sys
sys.path_importer_cache.clear()
import lessons_lib, torch
from lessons_lib import settings
print(json.dumps([lessons_lib.__file__, torch.__version__, torch.__file__, str(settings.settings)]))
"""


def git(folder: Path, *arguments: str):
    identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """An environment without lessons_lib, and the variables under which its git finds this tree."""
    folder = tmp_path_factory.mktemp("colab")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(toys.ROOT / name, tree)
    shutil.copytree(toys.ROOT / "lessons_lib", tree / "lessons_lib", ignore=shutil.ignore_patterns("__pycache__"))
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "The tree as it stands")

    # A .pth file lends the packages of this environment, but not its own .pth files: the editable install of
    # lessons_lib stays out of sight.
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(own, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LESSONS_", "PYTHON", "PIP_", "PYTEST"))
    }
    environment |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{tree.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": toys.ADDRESS,
        "GIT_ALLOW_PROTOCOL": "file",  # whatever else it might ask for would be the network
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it the wrong way round: 0 builds with the setuptools at hand
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    return python, environment


def run(colab, folder, *cells):
    """Run cells one after another in one IPython, in an empty folder; returns what they print."""
    python, environment = colab
    code = (
        "import json, sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "for cell in json.load(sys.stdin):\n"
        "    shell.run_cell(cell).raise_error()\n"
    )
    return subprocess.run(
        [python, "-c", code], input=json.dumps(cells), cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_cell_installs_the_library_and_leaves_torch_alone(colab, tmp_path):
    python, _ = colab
    before = run(colab, tmp_path, "import torch; print(torch.__version__, torch.__file__)\nimport lessons_lib")
    assert "No module named 'lessons_lib'" in before.stderr  # or else the rest would prove nothing
    version, file = before.stdout.split()[:2]

    first = run(colab, tmp_path, SETUP_CELL, REPORT)
    assert first.returncode == 0, first.stdout + first.stderr
    place, torch_version, torch_file, shown = json.loads(first.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(python.parent.parent)
    assert (torch_version, torch_file) == (version, file)
    assert shown.startswith("scale lesson")

    # A second time it finds the library and installs nothing: not even a word from pip.
    again = run(colab, tmp_path, SETUP_CELL)
    assert (again.returncode, again.stdout) == (0, "")


def test_the_installed_library_has_every_module(colab, tmp_path):
    """A package left out of the installation works in the clone and fails on Colab."""
    python, environment = colab
    run(colab, tmp_path, SETUP_CELL)
    code = (
        "import lessons_lib, pkgutil;"
        "print(*sorted(m.name for m in pkgutil.walk_packages(lessons_lib.__path__, 'lessons_lib.')))"
    )
    found = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    here = subprocess.run([sys.executable, "-c", code], cwd=toys.ROOT, capture_output=True, text=True)
    assert found.stdout.split() == here.stdout.split() != []


def test_every_chapter_opens_with_what_the_installation_brings(colab, tmp_path):
    """Each chapter's cells up to its sizes, and the stored studies, where only the set-up cell has run."""
    opening = []
    for path in sorted(toys.ROOT.glob("book/*/*.ipynb")):
        cells = book_rules.code_cells(nbformat.read(path, as_version=4))
        last = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        opening += [cell.source for cell in cells[: last + 1]]
    studies = "from lessons_lib.studies import students\nassert students.stored()"
    found = run(colab, tmp_path, *opening, studies)
    assert opening and found.returncode == 0, found.stdout + found.stderr
