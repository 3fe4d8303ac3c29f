"""A map of the papers, and a line below each chapter's title: what it assumes, builds on, and takes to read.

``{concept-map}``   the picture, whose boxes are links, and below it every relation in words

Both are made from book/map.yml.
"""

from __future__ import annotations

import html
import re
from itertools import combinations
from pathlib import Path

import nbformat
import yaml
from course_pages import BookDirective, _raw, read_book
from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)

RELATIONS = {"builds on": "builds", "contradicts": "contradicts", "shares a question with": "shares"}
STEP, BOX, MARGIN = (186, 104), (156, 56), 6
WORDS_A_MINUTE, LINES_A_MINUTE = 180, 12
MINUTES_A_FIGURE = 0.75


class MapError(ValueError):
    """book/map.yml names a chapter or a relation that is not there, or puts two boxes in one place."""


def read_map(book: Path, stems: set[str]) -> tuple[dict, list]:
    """Chapters and relations of book/map.yml; raises MapError where they and the course disagree."""
    found = yaml.safe_load((book / "book" / "map.yml").read_text(encoding="utf-8"))
    chapters, relations = found["chapters"], found["relations"]
    named = {end for start, _, stop, _ in relations for end in (start, stop)}
    named |= {stem for entry in chapters.values() for stem in entry.get("needs", ())}
    if unknown := sorted((named | set(chapters)) - stems):
        raise MapError(f"book/map.yml names chapters that course.yml has not: {', '.join(unknown)}")
    # A chapter that somebody has just begun may be absent; the book's tests ask for it.
    if missing := sorted(named - set(chapters)):
        raise MapError(f"book/map.yml has no place for: {', '.join(missing)}")
    if wrong := sorted({how for _, how, _, _ in relations} - set(RELATIONS)):
        raise MapError(f"book/map.yml has relations {wrong}; there are: {', '.join(RELATIONS)}")
    for (one, a), (other, b) in combinations(chapters.items(), 2):
        if a["at"] == b["at"]:
            raise MapError(f"book/map.yml puts {one} and {other} in one place, {a['at']}")
    return chapters, relations


def drawing(chapters: dict, relations: list, address) -> str:
    """The picture as SVG; ``address(stem)`` is the page that a box leads to, or None for a chapter to come."""
    columns, rows = (max(entry["at"][axis] for entry in chapters.values()) + 1 for axis in (0, 1))
    width, height = (STEP[0] * columns - STEP[0] + BOX[0] + 2 * MARGIN, STEP[1] * (rows - 1) + BOX[1] + 2 * MARGIN)
    lines = [_edge(chapters[start]["at"], chapters[stop]["at"], how) for start, how, stop, _ in relations]
    boxes = [_box(entry, address(stem)) for stem, entry in chapters.items()]
    marks = "".join(
        f'<marker id="map-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path class="map-head {kind}" d="M0 0 10 5 0 10z"/></marker>'
        for kind in RELATIONS.values()
    )
    return (
        f'<svg class="concept-map" viewBox="0 0 {width} {height}" role="group" aria-label="Map of the papers">'
        f"<defs>{marks}</defs>{''.join(lines)}{''.join(boxes)}</svg>"
    )


def _centre(at) -> tuple[float, float]:
    return MARGIN + BOX[0] / 2 + STEP[0] * at[0], MARGIN + BOX[1] / 2 + STEP[1] * at[1]


def _edge(start, stop, how) -> str:
    """A line from the border of one box to that of another, with a head where it has a direction."""
    (x1, y1), (x2, y2) = _centre(start), _centre(stop)
    dx, dy = x2 - x1, y2 - y1
    # The share of the way at which the line leaves a box.
    share = min((size / 2 + 3) / abs(d) for size, d in zip(BOX, (dx, dy), strict=True) if d)
    ends = (x1 + share * dx, y1 + share * dy, x2 - share * dx, y2 - share * dy)
    kind = RELATIONS[how]
    head = "" if kind == "shares" else f' marker-end="url(#map-{kind})"'
    x1, y1, x2, y2 = (f"{end:.1f}" for end in ends)
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"{head}/>'


def _box(entry: dict, address: str | None) -> str:
    x, y = _centre(entry["at"])
    words = entry["name"].split("/")
    text = "".join(
        f'<tspan x="{x}" y="{y + 5 + 18 * (index - (len(words) - 1) / 2)}">{html.escape(line)}</tspan>'
        for index, line in enumerate(words)
    )
    left, top = x - BOX[0] / 2, y - BOX[1] / 2
    box = f'<rect x="{left}" y="{top}" width="{BOX[0]}" height="{BOX[1]}" rx="8"/><text>{text}</text>'
    return f'<a href="{html.escape(address)}">{box}</a>' if address else f"<g>{box}</g>"


def minutes(notebook) -> int:
    """How long a chapter takes to read, to five minutes: its words, the code that is not folded, its figures."""
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"^```.*$|\{[\w:-]+\}|\$+", " ", prose, flags=re.MULTILINE)
    figures = sum("figure" in cell.metadata.get("mystnb", {}) for cell in notebook.cells)
    shown = [c for c in notebook.cells if c.cell_type == "code" and "hide-input" not in c.metadata.get("tags", ())]
    lines = sum(len(cell.source.splitlines()) for cell in shown)
    spent = len(re.findall(r"\w+", prose)) / WORDS_A_MINUTE + lines / LINES_A_MINUTE + MINUTES_A_FIGURE * figures
    return max(5, 5 * round(spent / 5))


class ConceptMap(BookDirective):
    """``{concept-map}``: the picture and the list."""

    def build(self) -> list[nodes.Node]:
        """A figure whose boxes are links, then the relations as sentences."""
        book = Path(self.env.srcdir)
        self.env.note_dependency(str(book / "book" / "map.yml"))
        self.env.note_dependency(__file__)
        titles = {row["chapter"]: row["paper"] for part in reversed(self.parts) for row in reversed(part["rows"])}
        chapters, relations = read_map(book, set(titles))
        builder, here = self.env.app.builder, self.env.docname

        def address(stem: str) -> str | None:
            chapter = self.chapters.get(stem)
            return builder.get_relative_uri(here, f"book/{chapter.part}/{stem}") if chapter else None

        picture = _raw(drawing(chapters, relations, address))
        listed = nodes.bullet_list(classes=["relations"])
        for start, how, stop, sentence in relations:
            ends = [self._named(stem, chapters[stem]) for stem in (start, stop)]
            words = nodes.inline("", f" {how} ", classes=["relation", RELATIONS[how]])
            listed += nodes.list_item("", nodes.paragraph("", "", ends[0], words, ends[1], nodes.Text(f": {sentence}")))
        return [picture, listed]

    def _named(self, stem: str, entry: dict) -> nodes.Node:
        return chapter_reference(self.chapters.get(stem), entry["name"].replace("/", " "))


def chapter_reference(chapter, text: str) -> nodes.Node:
    """A link to a chapter, or the text alone where it is to come."""
    from course_pages import _chapter_link

    return _chapter_link(chapter, text) if chapter else nodes.emphasis("", text)


def add_line(app, doctree: nodes.document) -> None:
    """Put the line below the title of a page that is a chapter of the course."""
    docname = app.env.docname
    path = Path(app.srcdir) / f"{docname}.ipynb"
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is None or not path.is_file():
        return
    parts, chapters = read_book(app.env)
    titles = {row["chapter"]: row["paper"] for part in reversed(parts) for row in reversed(part["rows"])}
    entries, _ = read_map(Path(app.srcdir), set(titles))
    if path.stem not in entries:
        return
    entry = entries[path.stem]
    app.env.note_dependency(str(Path(app.srcdir) / "book" / "map.yml"))
    time = minutes(nbformat.read(path, 4))
    line = nodes.paragraph("", f"About {time} minutes. Assumes {entry['assumes']}.", classes=["chapter-line"])
    for place, stem in enumerate(entry.get("needs", ())):
        line += nodes.Text(" Read first: " if place == 0 else ", ")
        line += chapter_reference(chapters.get(stem), titles[stem])
    if entry.get("needs"):
        line += nodes.Text(".")
    title.parent.insert(title.parent.index(title) + 1, line)


def setup(app) -> dict:
    """Register the directive and the line with Sphinx."""
    app.add_directive("concept-map", ConceptMap)
    app.connect("doctree-read", add_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
