"""A built site for the tests: how a copy of the book is made and built, and its pages read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
TOY = "book/w3-foundations/toy"
PREFIX = "some/prefix"


@dataclass(frozen=True)
class Site:
    """A built site: its source, its pages and what building it took."""

    source: Path
    seconds: float

    @property
    def html(self) -> Path:
        return self.source / "_build" / "html"

    @property
    def pages(self) -> list[Path]:
        """Every page of the book, the search page and the page at the root."""
        return sorted([*self.html.glob("book/**/*.html"), self.html / "search.html", self.html / "index.html"])

    def page(self, name: str) -> Page:
        return Page.read(self.html / f"{name}.html")


def copy_book(folder: Path, *, chapters: bool) -> Path:
    """The book's source in ``folder``, with or without its chapters."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", *(() if chapters else ("*.ipynb",)))
    shutil.copytree(ROOT / "book", folder / "book", ignore=ignored)
    if chapters:
        shutil.copytree(ROOT / "records", folder / "records")
    else:
        (folder / "records").mkdir()
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "results.json", folder / "benchmarks")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    if not chapters:
        for part in toc["parts"]:
            for entry in part["chapters"]:
                entry.pop("sections", None)
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    return folder


def add_to_contents(source: Path, name: str) -> None:
    """List a chapter below the first week's index."""
    toc = yaml.safe_load((source / "_toc.yml").read_text())
    (week,) = [entry for entry in toc["parts"][0]["chapters"] if entry["file"] == "book/w3-foundations/index"]
    week.setdefault("sections", []).append({"file": name})
    (source / "_toc.yml").write_text(yaml.safe_dump(toc))


def build(source: Path) -> Site:
    start = time.monotonic()
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "-W", "-n", "--keep-going"]
    # The copy has no lessons_lib of its own, and the one installed may not be this one.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    lines = [line for line in done.stderr.splitlines() if re.search("WARNING|ERROR|Error", line)]
    assert done.returncode == 0, "\n".join(lines) or done.stdout[-3000:] + done.stderr[-3000:]
    return Site(source, time.monotonic() - start)


class Page(HTMLParser):
    """A page's elements as (tag, attributes), and its text less scripts."""

    def __init__(self):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.inside = ""

    @classmethod
    def read(cls, path: Path) -> Page:
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    def all(self, *tags: str, key: str) -> list[str]:
        """The attribute ``key`` of every element called one of ``tags`` that has it."""
        return [attributes[key] for tag, attributes in self.elements if tag in tags and key in attributes]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not report each request."""

    def log_message(self, *arguments):
        """Say nothing."""


def settle(page) -> None:
    """Wait until the page is there with its mathematics and all its widgets, and not one that leads to another."""
    page.wait_for_function("!document.querySelector('meta[http-equiv=refresh]')")
    page.wait_for_load_state("load")
    page.evaluate("window.MathJax?.startup.promise.then(() => null)")
    page.wait_for_function(
        """() => document.querySelectorAll("script[type='application/vnd.jupyter.widget-view+json']").length ===
        [...document.querySelectorAll(".explore")]
        .filter(widget => [...widget.querySelectorAll("[aria-live] img")].some(e => e.checkVisibility())).length"""
    )
