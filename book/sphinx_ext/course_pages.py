"""Directives that make the book's tables from book/course.yml and the chapters' stored verdicts.

``{course-table} KEY``  one part's papers, in the course's own columns; without KEY the whole course
``{questions}``         what the chapters ask, each a link to its chapter
``{tally}``             how many claims held, failed and stayed undecided
``{chapter}`STEM` ``    a link to a chapter by its paper's title, or the title alone while it is to come

They read at build time, and the pages depend on what is read, so that no table can go stale.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

# The site shows this checkout, also where another lessons_lib is installed, or none.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lessons_lib import board, records
from lessons_lib.claims import SYMBOLS

COLUMNS = ("Presenter", "Paper", "Paper URL", "Our presentation", "Chapter", "Claims held")
NOTES_COLUMNS = ("Paper", "Paper URL", "What the notes ask", "Chapter", "Claims held")


def read_book(env: BuildEnvironment) -> tuple[list[dict], dict[str, board.Chapter]]:
    """The course's parts and, by stem, the chapters that exist; the page being read depends on all of them."""
    book = Path(env.srcdir)
    parts = _course(book, (book / "book" / "course.yml").stat().st_mtime_ns)
    files = [book / "book" / row["file"] for part in parts for row in part["rows"]]
    files += records.files(book)
    for path in (book / "book" / "course.yml", Path(board.__file__), Path(__file__), *files):
        env.note_dependency(str(path))
    return parts, _chapters(book, tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in files))


@cache
def _course(book: Path, time: int) -> list[dict]:
    return board.course(book)


@cache
def _chapters(book: Path, times: tuple[int, ...]) -> dict[str, board.Chapter]:
    """The chapters by stem, read once as long as the files are those of these ``times``: many links ask for them."""
    return {chapter.stem: chapter for chapter in board.chapters(book)}


class BookDirective(SphinxDirective):
    """A directive that shows something of the course and its chapters."""

    def run(self) -> list[nodes.Node]:
        """The nodes that stand in the directive's place."""
        self.parts, self.chapters = read_book(self.env)
        return self.build()

    def build(self) -> list[nodes.Node]:
        """What the directive shows; the course is in ``parts``, what exists in ``chapters``, by stem."""
        raise NotImplementedError


class ChapterRole(SphinxRole):
    """``{chapter}`STEM` ``: the chapter, by the title of its paper."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A link, or the title with a word that the chapter is to come; an unknown stem is a warning."""
        parts, chapters = read_book(self.env)
        titles = {row["chapter"]: row["paper"] for part in reversed(parts) for row in reversed(part["rows"])}
        if self.text not in titles:
            message = self.inliner.reporter.error(f"course.yml has no chapter {self.text!r}.", line=self.lineno)
            return [nodes.literal("", self.text)], [message]
        title = titles[self.text]
        if self.text in chapters:
            return [_chapter_link(chapters[self.text], title)], []
        return [nodes.emphasis("", title), nodes.inline("", " chapter to come", classes=["to-come"])], []


class CourseTable(BookDirective):
    """``{course-table} KEY``: the papers of one part, or of the whole course."""

    optional_arguments = 1

    def build(self) -> list[nodes.Node]:
        """One table."""
        if not self.arguments:
            rows = []
            for part in self.parts:
                head = [_link(f"/book/{part['key']}/index", part["title"]), nodes.Text(f" ({part['week']})")]
                rows += [[head], *(self._row(row) for row in part["rows"])]
            return [_table(COLUMNS, rows, "course")]
        known = {part["key"]: part for part in self.parts}
        if self.arguments[0] not in known:
            raise self.error(f"course.yml has no part {self.arguments[0]!r}; it has: {', '.join(known)}.")
        part = known[self.arguments[0]]
        if "asks" in part["rows"][0]:
            return [_table(NOTES_COLUMNS, map(self._notes_row, part["rows"]), "course")]
        return [_table(COLUMNS, map(self._row, part["rows"]), "course")]

    def _row(self, row: dict) -> list[list[nodes.Node]]:
        presenter = [nodes.Text(row.get("presenter") or "–")]
        return [presenter, *_paper(row), self._slides(row), self._chapter(row), self._held(row)]

    def _notes_row(self, row: dict) -> list[list[nodes.Node]]:
        chapter = self._chapter(row)
        if row["chapter"] in self.chapters:
            chapter += [nodes.Text(", "), *self._slides(row)]
        return [*_paper(row), [nodes.inline("", row["asks"], classes=["asked"])], chapter, self._held(row)]

    def _slides(self, row: dict) -> list[nodes.Node]:
        """The presentation: the address that the course has for it, or the deck that slides.py makes."""
        if row.get("slides"):
            return [nodes.reference("", "slides", refuri=row["slides"])]
        if row["chapter"] not in self.chapters:
            return [nodes.Text("–")]
        deck = f"{'../' * self.env.docname.count('/')}slides/{row['chapter']}.html"
        return [nodes.reference("", "slides", refuri=deck, internal=True)]

    def _chapter(self, row: dict) -> list[nodes.Node]:
        if row["chapter"] not in self.chapters:
            return [nodes.inline("", "chapter to come", classes=["to-come"])]
        return [_chapter_link(self.chapters[row["chapter"]], "read")]

    def _held(self, row: dict) -> list[nodes.Node]:
        chapter = self.chapters.get(row["chapter"])
        if chapter is None:
            return [nodes.Text("–")]
        if chapter.problem:
            return [nodes.Text("no verdicts")]
        others = [f"{chapter.count(verdict)} {verdict}" for verdict in ("failed", "undecided")]
        text = f"{chapter.count('held')} of {len(chapter.results)}"
        detail = ", ".join(other for other in others if not other.startswith("0 "))
        return [nodes.strong("", text), nodes.Text(f" ({detail})" if detail else "")]


class Questions(BookDirective):
    """``{questions}``: one question a paper; a link where the chapter is there to answer it."""

    def build(self) -> list[nodes.Node]:
        """A list, in the course's order, each paper once."""
        items = nodes.bullet_list(classes=["questions"])
        asked = {}
        for row in (row for part in self.parts for row in part["rows"]):
            asked.setdefault(row["chapter"], row.get("question"))
        for stem, question in asked.items():
            if not question:
                continue
            if stem in self.chapters:
                content = [_chapter_link(self.chapters[stem], question)]
            else:
                note = nodes.inline("", " chapter to come", classes=["to-come"])
                content = [nodes.Text(question), note]
            items += nodes.list_item("", nodes.paragraph("", "", *content))
        return [items]


class Tally(BookDirective):
    """``{tally}``: the totals, in words and as a bar."""

    def build(self) -> list[nodes.Node]:
        """A bar, where there are claims, and a line."""
        found = list(self.chapters.values())
        counts = board.tally(found)
        if not counts.total():
            return [nodes.paragraph("", "No chapter has verdicts yet.")]
        words = [nodes.Text(board.size(found))]
        for verdict, number in counts.items():
            words += [nodes.Text(f" · {number} "), _verdict(verdict)]
        line = nodes.paragraph("", "", *words, classes=["tally"])
        return [_raw(tally_bar(counts)), line]


# ------------------------------------------------------------------------------------------ small nodes


def tally_bar(counts: Counter) -> str:
    """The counts of verdicts as a bar of three colours; what it shows has to stand beside it in words."""
    parts = "".join(
        f'<span class="tally-{verdict}" style="flex-grow:{number}"></span>'
        for verdict, number in counts.items()
        if number
    )
    return f'<div class="tally-bar" aria-hidden="true">{parts}</div>'


def _table(header: tuple[str, ...], rows, name: str) -> nodes.table:
    """A table whose cells are lists of inline nodes; a row of one cell spans them all."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    group += nodes.thead("", _table_row([[nodes.Text(title)] for title in header]))
    body = nodes.tbody()
    for cells in rows:
        body += _table_row(cells, spans=len(header) if len(cells) == 1 else 1)
    group += body
    return nodes.table("", group, classes=[f"{name}-table", "colwidths-auto"])


def _table_row(cells: list[list[nodes.Node]], spans: int = 1) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry("", nodes.paragraph("", "", *cell))
        if spans > 1:
            entry["morecols"] = spans - 1
        row += entry
    return row


def _paper(row: dict) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """The cells of title and venue, and of address, of a row's papers: a line of its own for each."""
    papers = [row, *row.get("also", ())]
    titles = [nodes.inline("", f"{each['paper']} ({each['venue']})", classes=["paper-title"]) for each in papers]
    addresses = [nodes.inline("", "", _external(each["url"]), classes=["paper-url"]) for each in papers]
    return titles, addresses


def _external(url: str) -> nodes.reference:
    """A link out, under a short name: ``arXiv 1611.03530``, or the host."""
    arxiv = re.fullmatch(r"https://arxiv\.org/abs/([\d.]+)", url)
    host = urlparse(url).netloc.removeprefix("www.").removeprefix("proceedings.")
    text = f"arXiv {arxiv[1]}" if arxiv else host
    return nodes.reference("", text, refuri=url)


def _raw(markup: str) -> nodes.raw:
    """Markup that goes into the page as it is."""
    return nodes.raw("", markup, format="html")


def _link(target: str, text: str) -> addnodes.pending_xref:
    """A link to a page of the book, checked by Sphinx like any other."""
    return addnodes.pending_xref(
        "",
        nodes.inline("", text),
        refdomain="std",
        reftype="doc",
        reftarget=target,
        refexplicit=True,
        refwarn=True,
    )


def _chapter_link(chapter: board.Chapter, text: str) -> addnodes.pending_xref:
    return _link(f"/book/{chapter.part}/{chapter.stem}", text)


def _verdict(verdict: str) -> nodes.inline:
    return nodes.inline("", f"{SYMBOLS[verdict]} {verdict}", classes=["verdict", f"verdict-{verdict}"])


def setup(app) -> dict:
    """Register the directives and the role with Sphinx."""
    app.add_role("chapter", ChapterRole())
    app.add_directive("course-table", CourseTable)
    app.add_directive("questions", Questions)
    app.add_directive("tally", Tally)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
