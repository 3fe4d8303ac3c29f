"""Makes a talk of every chapter: slides/NAME.html beside the book's pages, shown by reveal.js, nothing executed.

A chapter whose cells say what they are (``slideshow: {slide_type: slide}``, as JupyterLab sets it) is shown as
they say. Any other is cut by ``choose``, which follows the frame that all chapters share: the title with the
paper's card; the table of claims; of each section its first paragraph, its figures and what was measured; the
first picture to explore; the table of verdicts; what came after. The prose that is left becomes the speaker's
notes (key S). Code is never shown. ``?print-pdf`` after the address gives pages for a printer.
"""

from __future__ import annotations

import functools
import html
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pybtex.database import parse_file

# The site shows this checkout, also where another lessons_lib is installed, or none.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lessons_lib import board, notebooks
from lessons_lib.claims import RESULT_TYPE

TEMPLATE = Path(__file__).with_name("deck.html.j2")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

# Of the sections of a chapter the deck has all but the set-up, up to the verdicts; and this one, whose prose is shown.
SET_UP, VERDICTS, AFTER = "Set-up", "Verdicts", "What came after"
TABLE_ROWS = 8  # of one slide
RESULTS = 5
CHARACTERS = 900


# ------------------------------------------------------------------------------------------ a chapter's parts


class Block(NamedTuple):
    """A part of a chapter: a ``heading``, ``prose``, a ``figure``, ``frame``, ``table``, ``result`` or ``output``."""

    kind: str
    text: str
    level: int = 0


@dataclass
class Slide:
    """What is seen, a list of blocks of Markdown, and what is said. ``beside`` stands small beside the title."""

    title: str
    shown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beside: str = ""
    level: int = 2
    opens: bool = False  # a column of the deck's overview

    @property
    def source(self) -> str:
        """The slide as Markdown."""
        beside = f" <small>{self.beside}</small>" if self.beside else ""
        return "\n\n".join([f"{'#' * self.level} {self.title}{beside}", *self.shown])


def blocks(cell: NotebookNode, state: dict) -> Iterator[Block]:
    """The parts of a cell, in order; of a code cell its outputs alone. ``state`` is that of the widgets."""
    if cell.cell_type == "markdown":
        yield from _prose(cell.source)
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        markup = data.get("text/html", "")
        if RESULT_TYPE in data:
            said = html.escape(data[RESULT_TYPE]["statement"])
            yield Block("result", f'<p class="claim-said">{said}</p>\n{markup}')
        elif '<table class="claims"' in markup:
            yield Block("table", markup[markup.index("<table") : markup.index("</table>") + len("</table>")])
        elif "image/png" in data:
            yield Block("figure", _figure(data["image/png"], cell.metadata.get("mystnb", {})))
        elif WIDGET_VIEW in data:
            if frame := _first_frame(state, data[WIDGET_VIEW]["model_id"]):
                yield Block("frame", frame)
        elif output.output_type == "stream" or (markup == "" and "text/plain" in data):
            text = output.get("text") or data["text/plain"]
            yield Block("output", f"<pre>{html.escape(text.strip())}</pre>")


def _prose(source: str) -> Iterator[Block]:
    """Headings and paragraphs; a fenced block, or a list without blank lines, is one."""
    paragraph, fence = [], ""
    for line in [*source.splitlines(), ""]:
        heading = None if fence else re.fullmatch(r"(#+) +(.*)", line)
        if heading or not (line.strip() or fence):
            if paragraph:
                yield Block("prose", "\n".join(paragraph).strip())
            paragraph = []
            if heading:
                yield Block("heading", heading[2].strip(), len(heading[1]))
            continue
        paragraph.append(line)
        if line.strip() == fence:
            fence = ""
        elif not fence and (opens := re.match("`{3,}|:{3,}", line)):
            fence = opens[0]


def _figure(png: str, said: dict) -> str:
    alt = html.escape(said.get("image", {}).get("alt", "A figure of the chapter."))
    caption = said.get("figure", {}).get("caption", "")
    image = f'<figure><img alt="{alt}" src="data:image/png;base64,{"".join(png.split())}">'
    return f"{image}<figcaption>\n\n{caption}\n\n</figcaption></figure>" if caption else f"{image}</figure>"


def _first_frame(state: dict, model: str) -> str:
    """The picture that a stored widget of ``explore`` shows before anybody moves it."""
    found = state.get(model, {}).get("state", {})
    if "<figure" in str(found.get("value", "")):
        return found["value"]
    children = found.get("children") or []
    if found.get("_model_name") == "StackModel":
        children = children[found.get("selected_index") or 0 :][:1]
    return next(filter(None, (_first_frame(state, child.removeprefix("IPY_MODEL_")) for child in children)), "")


# ------------------------------------------------------------------------------- the rule that chooses slides


def choose(parts: list[Block]) -> list[Slide]:
    """The slides of a chapter that does not say itself what they are."""
    slides: list[Slide] = []
    decided = False
    for title, section in _sections(parts):
        if title == SET_UP or (decided and title != AFTER):
            continue
        decided |= title == VERDICTS
        if title == AFTER:
            found = _whole(title, section)
        elif slides and any(part.kind == "table" for part in section):
            found = _tables(title, section)
        else:
            found = _section(title, section, first=not slides)
        if found:
            found[0].opens = True
        slides += found
    return slides


def _sections(parts: list[Block]) -> list[tuple[str, list[Block]]]:
    """The chapter cut at its title and its second-level headings."""
    sections: list[tuple[str, list[Block]]] = []
    for part in parts:
        if part.kind == "heading" and part.level <= 2 or not sections:
            sections.append((part.text if part.kind == "heading" else "", []))
            if part.kind == "heading":
                continue
        sections[-1][1].append(part)
    return sections


def _section(title: str, parts: list[Block], first: bool) -> list[Slide]:
    """A slide with the first paragraph, one a figure, and what was measured; so too below each ``###``."""
    slides: list[Slide] = []
    results, about_results = [], []
    heading, opened, last = title, False, ""
    for part in parts:
        leads = part.kind == "prose" and not opened
        if slides and part.kind in ("heading", "figure", "frame"):  # what followed a result led on to this
            slides[-1].notes += about_results
            about_results = []
        if part.kind == "heading":
            heading, opened = part.text, False
        elif part.kind == "result":
            results.append(part.text)
        elif part.kind == "frame" and opened and "<img" not in "".join(slides[-1].shown):
            slides[-1].shown.append(part.text)  # under the sentence that says what to move
        elif leads or part.kind in ("figure", "frame"):
            slides.append(Slide(heading, [part.text]))
            opened = True
        elif part.kind == "prose" and last == "result":
            about_results.append(part.text)
            continue
        elif part.kind == "prose" and last == "lead" and _goes_on(slides[-1].shown[-1], part.text):
            slides[-1].shown.append(part.text)
            continue
        elif part.kind == "prose":
            _tell(slides[-1], part.text)
        last = "lead" if leads else part.kind
    if first and slides:
        slides[0].level = 1
    pages = _evenly(results, RESULTS)
    slides += [Slide(title, page, beside=f"what came out {_count(at, pages)}".strip()) for at, page in enumerate(pages)]
    if about_results:
        slides[-1].notes += about_results
    return slides


def _goes_on(lead: str, following: str) -> bool:
    """Whether a paragraph needs the next block: a formula, what its colon announces, what the paper's card is for."""
    return following.startswith("$$") or lead.startswith("```") or (lead.endswith(":") and not lead.startswith("$$"))


def _tell(slide: Slide, text: str) -> None:
    """Leave a paragraph to the speaker; but what readers are to predict is shown, unless a figure would tell."""
    told, predict, asked = text.partition("**Predict first")
    if predict and not any("<img" in shown for shown in slide.shown):
        slide.shown.append(f'<div class="predict">\n\n{predict}{asked}\n\n</div>')
        text = told
    if text.strip():
        slide.notes.append(text)


def _tables(title: str, parts: list[Block]) -> list[Slide]:
    """A table of claims, or of verdicts, a few rows at a time; what is written around it is told."""
    slides: list[Slide] = []
    for table in (part.text for part in parts if part.kind == "table"):
        head, body, tail = re.split(r"(?<=<tbody role=\"rowgroup\">)|(?=</tbody>)", table)
        rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
        pages = _evenly(rows, TABLE_ROWS)
        slides += [
            Slide(title, ["\n".join([head, *page, tail])], beside=_count(at, pages)) for at, page in enumerate(pages)
        ]
    slides[0].notes += [part.text for part in parts if part.kind == "prose"]
    return slides


def _whole(title: str, parts: list[Block]) -> list[Slide]:
    """All the prose of a section, as much at a time as a slide holds."""
    items = [item for part in parts if part.kind == "prose" for item in re.split(r"\n(?=- )", part.text)]
    pages: list[list[str]] = []
    for item in items:
        if not pages or sum(map(len, pages[-1])) + len(item) > CHARACTERS:
            pages.append([])
        pages[-1].append(item)
    return [Slide(title, ["\n".join(page)], beside=_count(at, pages)) for at, page in enumerate(pages)]


def _evenly(items: list[str], most: int) -> list[list[str]]:
    """As few pages as hold ``most`` items each, and those about equally full."""
    pages = -(-len(items) // most)
    size = -(-len(items) // max(pages, 1))
    return [items[start : start + size] for start in range(0, len(items), size or 1)]


def _count(at: int, pages: list) -> str:
    return f"{at + 1} of {len(pages)}" if len(pages) > 1 else ""


# ---------------------------------------------------------------------------------- MyST as plain Markdown


@dataclass(frozen=True)
class References:
    """What a chapter's text refers to: its own folder, the chapters' titles and pages, papers' authors and years.

    ``chapters`` maps a stem to (title, part), with an empty part where the chapter is to come; ``papers`` maps a
    key of the bibliography to (authors, year).
    """

    part: str = ""
    chapters: dict[str, tuple[str, str]] = field(default_factory=dict)
    papers: dict[str, tuple[str, str]] = field(default_factory=dict)

    def plain(self, text: str) -> str:
        """MyST's directives, roles and links between pages as Markdown that any renderer knows."""
        text = re.sub(r"^(`{3,}|:{3,})\{([\w-]+)\} *(.*)\n((?:.*\n)*?)\1 *$", self._directive, text, flags=re.M)
        text = re.sub(r"\]\((?!\w+:|#|//)([^)\s]+)\)", lambda found: f"]({self._page(found[1])})", text)
        return re.sub(r"\{([\w:]+)\}`([^`]*)`", self._role, text)

    def _directive(self, found: re.Match) -> str:
        title = found[3] or found[2].capitalize()
        body = re.sub(r"\A(:[\w-]+:.*\n)+", "", found[4])
        return f'<div class="admonition">\n<p class="admonition-title">{title}</p>\n\n{body}\n</div>'

    def _role(self, found: re.Match) -> str:
        role, text = found.groups()
        if role.startswith("cite"):
            keys = [self.papers.get(key.strip(), (key.strip(), "")) for key in text.split(",")]
            if role == "cite:t":
                return ", ".join(f"{authors} ({year})" for authors, year in keys)
            return f"({'; '.join(f'{authors}, {year}' for authors, year in keys)})"
        if role == "chapter":
            title, part = self.chapters.get(text, (text, ""))
            return f"[{title}](../book/{part}/{text}.html)" if part else f"*{title}*"
        if named := re.fullmatch(r"(.*?) *<(.*)>", text):
            return named[1]
        return {"numref": "the figure", "ref": "the chapter", "doc": "the book"}.get(role, text)

    def _page(self, target: str) -> str:
        """From the folder of decks to what a chapter calls ``target``."""
        path, mark, fragment = target.partition("#")
        stem = re.sub(r"\.(md|ipynb|html)$", "", path)
        return "../" + posixpath.normpath(posixpath.join("book", self.part, stem)) + ".html" + mark + fragment


def papers(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Authors, as the text cites them, and year, by key."""
    found = {}
    for key, entry in parse_file(str(bibliography), bib_format="bibtex").entries.items():
        names = [
            " ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names]))
            for person in entry.persons.get("author", [])
        ]
        shown = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        found[key] = (shown or entry.fields["title"], entry.fields.get("year", ""))
    return found


# ------------------------------------------------------------------------------------------------- the deck


def deck(notebook: NotebookNode, references: References, address: str) -> NotebookNode:
    """A notebook of Markdown cells alone, each with its place in the talk; ``address`` is the chapter's page."""
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    cells = [(cell, list(blocks(cell, state))) for cell in notebook.cells]
    made = []

    def add(kind: str, *texts: str) -> None:
        source = references.plain("\n\n".join(texts))
        made.append(new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}}))

    if any(_slide_type(cell) for cell, _ in cells):
        for cell, parts in cells:
            headings = ("#" * part.level + " " + part.text if part.level else part.text for part in parts)
            add(_slide_type(cell) or "-", *headings)
    else:
        for slide in choose([part for _, parts in cells for part in parts]):
            if slide.level == 1:
                slide.shown.append(
                    f'<p class="door"><a href="{address}">The chapter, with its code and exercises</a></p>'
                )
            elif any("explore-frame" in shown for shown in slide.shown):
                slide.shown.append(
                    f'<p class="door"><a href="{address}#explore">Move it on the chapter\'s page</a></p>'
                )
            add("slide" if slide.opens else "subslide", slide.source)
            if slide.notes:
                add("notes", *slide.notes)
    title = notebooks.title(notebook) or "A chapter"
    return new_notebook(cells=made, metadata={"title": title})


def _slide_type(cell: NotebookNode) -> str:
    return cell.metadata.get("slideshow", {}).get("slide_type", "").replace("-", "")


@functools.cache
def _exporter() -> SlidesExporter:
    """One for all decks: it takes longer to read its templates than to fill them."""
    return SlidesExporter(template_file=str(TEMPLATE), exclude_anchor_links=True)


def page(made: NotebookNode) -> str:
    """The deck as a page of HTML."""
    text, _ = _exporter().from_notebook_node(made)
    return re.sub(r'<(h[1-6]) id="[^"]*">', r"<\1>", text)  # a heading may stand on several slides


def write(book: Path, folder: Path) -> list[Path]:
    """Write the decks of the book's chapters into ``folder``, and nothing else; returns their paths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = [row for part in board.course(book) for row in part["rows"]]
    found = board.chapters(book)
    parts = {chapter.stem: chapter.part for chapter in found}
    titles = {row["chapter"]: (row["paper"], parts.get(row["chapter"], "")) for row in reversed(rows)}
    cited = papers(book / "book" / "references.bib")
    for chapter in found:
        references = References(chapter.part, titles, cited)
        made = deck(notebooks.read(chapter.path), references, f"../book/{chapter.part}/{chapter.stem}.html")
        (folder / f"{chapter.stem}.html").write_text(page(made), encoding="utf-8")
    return [folder / f"{chapter.stem}.html" for chapter in found]


def _write_decks(app, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        write(Path(app.srcdir), Path(app.outdir) / "slides")


def setup(app) -> dict:
    """Have the decks written when the pages are there."""
    app.connect("build-finished", _write_decks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
