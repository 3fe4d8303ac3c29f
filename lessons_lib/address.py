"""The repository's address: it stands in ``_config.yml``, and everything else that names it follows."""

from __future__ import annotations

import re
from pathlib import Path

from lessons_lib.notebooks import BookError, read, write

SETUP_CELL = """\
try:
    import lessons_lib
except ModuleNotFoundError:
    %pip install -q "git+{address}"
"""

_FORM = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)")


def setup_cell(address: str) -> str:
    """The first code cell of every chapter: installs lessons_lib where it is missing, as on Colab."""
    return SETUP_CELL.format(address=address).rstrip()


def address(root: Path) -> str:
    """The address in ``_config.yml``. Raises BookError if there is none."""
    import yaml

    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    try:
        return config["repository"]["url"]
    except (KeyError, TypeError):
        raise BookError("_config.yml has no repository.url: the repository's address belongs there.") from None


def set_address(root: Path, new: str) -> list[Path]:
    """Make ``new`` the address, wherever the old one stands; returns the files changed.

    Links to the repository, to its Colab notebooks and to its Pages site follow. Raises BookError for
    anything but ``https://github.com/OWNER/NAME``, which those links are made of.
    """
    old = address(root)
    if not _FORM.fullmatch(new) or new.endswith(".git"):
        raise BookError(f"{new!r} is no address of a repository: it must look like https://github.com/OWNER/NAME.")
    (old_owner, old_name), (owner, name) = _FORM.fullmatch(old).groups(), _FORM.fullmatch(new).groups()
    # In one pass, so that no replacement is itself replaced.
    follow = {
        f"github.com/{old_owner}/{old_name}": f"github.com/{owner}/{name}",
        f"/github/{old_owner}/{old_name}": f"/github/{owner}/{name}",
        f"{old_owner}.github.io/{old_name}": f"{owner}.github.io/{name}",
    }
    pattern = re.compile("(?:" + "|".join(map(re.escape, follow)) + r")(?![\w-])")
    changed = []
    for path in places(root):
        text = path.read_text(encoding="utf-8")
        if not (replaced := pattern.sub(lambda match: follow[match[0]], text)) == text:
            path.write_text(replaced, encoding="utf-8")
            if path.suffix == ".ipynb":
                write(read(path), path)  # a cell's id follows its text
            changed.append(path)
    return changed


def places(root: Path) -> list[Path]:
    """The files in which the address may stand."""
    patterns = (
        "*.md",
        "*.yml",
        "*.toml",
        "*.cff",
        "book/**/*.md",
        "book/**/*.yml",
        "book/**/*.ipynb",
        "lessons_lib/**/*.py",
    )
    return sorted(
        path
        for pattern in patterns
        for path in root.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
