"""The scoreboard: every claim of every chapter on one page, and the same as scoreboard.json beside it.

``{scoreboard}``   an overview, filters, and a table a chapter, whose rows lead to where each claim is measured

Without a script the whole table shows; webstatic/scoreboard.js brings the filters to life. The chapters' pages get
the anchors that the rows lead to while they are read, so that no stored notebook has to hold them.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from pathlib import Path

import forest
import recorded
from course_pages import BookDirective, _chapter_link, _raw, _verdict, tally_bar
from docutils import nodes
from sphinx.util import logging

from lessons_lib import board, other_seeds, records
from lessons_lib.claims import EVIDENCE, SYMBOLS, Result, _number

logger = logging.getLogger(__name__)

PAGE = "book/scoreboard"
COLUMNS = ("Id", "Claim", "The paper", "Here", "Verdict")


def anchor(claim: str) -> str:
    """The id, on its chapter's page, of the place where ``claim`` is measured."""
    return f"claim-{claim}"


def week_name(part: dict) -> str:
    """A part's short name: "2017-W3, Foundations III" or, where the title is no such name, its week alone."""
    short, colon, _ = part["title"].partition(":")
    return f"{part['week']}, {short}" if colon else part["week"]


class Scoreboard(BookDirective):
    """``{scoreboard}``: overview and filters, then a section a part, in it one a chapter, in it a row a claim."""

    def build(self) -> list[nodes.Node]:
        """The page, in the course's order."""
        self.env.note_dependency(__file__)
        self.env.note_dependency(forest.__file__)
        if not self.chapters:
            return [nodes.paragraph("", "No chapter has verdicts yet.")]
        weeks = [
            (part, chapters)
            for part in self.parts
            if (chapters := [each for each in self.chapters.values() if each.part == part["key"]])
        ]
        found = [chapter for _, chapters in weeks for chapter in chapters]
        scales = "Each drawing has a scale of its own, logarithmic where ratios are averaged. "
        file = nodes.reference("", "All of it as one JSON file", refuri="scoreboard.json")
        return [
            *_steady(found),
            _raw(_overview(found)),
            _raw(_filters(weeks)),
            _raw(forest.legend()),
            nodes.paragraph("", "", nodes.Text(scales), file, nodes.Text("."), classes=["board-file"]),
            *(self._week(part, chapters) for part, chapters in weeks),
        ]

    def _week(self, part: dict, chapters: list[board.Chapter]) -> nodes.section:
        title = nodes.title("", f"{part['week']}. {part['title']}" if ":" in part["title"] else part["title"])
        sections = (self._chapter(chapter) for chapter in chapters)
        return nodes.section("", title, *sections, ids=[f"board-{part['key']}"])

    def _chapter(self, chapter: board.Chapter) -> nodes.section:
        section = nodes.section("", nodes.title("", chapter.title), ids=[f"board-{chapter.stem}"])
        link = _chapter_link(chapter, "Read the chapter")
        if chapter.problem:
            logger.warning(chapter.problem, location=self.get_location())
            section += nodes.admonition("", nodes.title("", "No verdicts"), nodes.paragraph("", chapter.problem))
            section += nodes.paragraph("", "", link)
            return section
        line = nodes.paragraph("", "", link, nodes.Text(f" · measured at {chapter.scale} scale"))
        for verdict in board.VERDICTS:
            if number := chapter.count(verdict):
                line += [nodes.Text(f" · {number} "), _verdict(verdict)]
        page = self.env.app.builder.get_relative_uri(self.env.docname, f"book/{chapter.part}/{chapter.stem}")
        # On a phone a row becomes a card; the roles keep it a table for those who hear it.
        head = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in COLUMNS)
        section += [
            line,
            _raw(
                '<table class="board-table" role="table"><thead role="rowgroup">'
                f'<tr role="row">{head}</tr></thead><tbody role="rowgroup">'
            ),
            *(node for result in chapter.results for node in _row(chapter, result, page)),
            _raw("</tbody></table>"),
        ]
        return section


# Markup and nodes stand side by side in a row: Sphinx sets the mathematics and quotes of the nodes, and docutils'
# own tables can carry neither a row's data nor roles.


def _row(chapter: board.Chapter, result: Result, page: str) -> list[nodes.Node]:
    """A claim's row: what is raw opens and closes the cells, what is a node stands in them."""
    claim = result.claim
    name = html.escape(claim.id)
    if claim.evidence == "measurement":
        evidence = f"measured over {result.n} seeds"
    else:
        evidence = EVIDENCE[claim.evidence] + (f", {result.n} cases" if result.n > 1 else "")
    no_effect = "" if claim.null is None else f" · no effect: {_number(claim.null)}"
    return [
        _raw(
            f'<tr role="row" id="{chapter.stem}-{name}" data-week="{chapter.part}" data-verdict="{result.verdict}" '
            f'data-evidence="{claim.evidence}"><th scope="row" role="rowheader">'
            f'<a href="{html.escape(page)}#{anchor(name)}">{name}</a></th>{_cell("Claim")}'
        ),
        *([nodes.inline("", "", *_prose(begun), classes=["board-begun"])] if (begun := chapter.begun(result)) else []),
        nodes.inline("", "", *_prose(claim.statement)),
        *_note(result.note),
        *_note(f"Quantity: {claim.quantity}"),
        _raw(f"</td>{_cell('The paper')}"),
        nodes.inline("", "", *_prose(claim.paper)),
        _raw(f"</td>{_cell('Here')}"),
        _raw(forest.drawing(result)),
        nodes.inline("", board.numbers(result)),
        *_note(f"holds when {claim.holds}{no_effect}"),
        *(node for pair in chapter.recorded(claim.id) for node in _recorded(*pair, page)),
        _raw(f"</td>{_cell('Verdict')}"),
        _verdict(result.verdict),
        *_note(evidence),
        *_note(other_seeds.told(result, chapter.repeats)),
        _raw("</td></tr>\n"),
    ]


def _steady(chapters: list[board.Chapter]) -> list[nodes.Node]:
    """How often the verdicts were the same at other base seeds: a sentence, where any were tried."""
    found = board.steadiness(chapters)
    if not found.verdicts:
        return []
    text = (
        f"Chapters were run again at other base seeds. Of {found.verdicts:,} verdicts on measured claims "
        f"{found.same / found.verdicts:.0%} were those that stand here; {found.opposite or 'none'} went from held to "
        "failed or back."
    )
    return [nodes.paragraph("", text)]


def _recorded(record: records.Record, result: Result, page: str) -> list[nodes.Node]:
    """What a recorded run says of the claim: a line that leads to the run, below what the lesson scale says."""
    link = nodes.reference("", "Recorded run", refuri=f"{page}#{recorded.anchor(record)}", internal=True)
    numbers = f" {board.measured(result)}" + (f" ({', '.join(record.names)})" if record.names else "")
    line = [link, nodes.Text(": "), _verdict(result.verdict), nodes.Text(numbers)]
    return [nodes.inline("", "", *line, classes=["note-line", "larger"])]


def _prose(text: str) -> list[nodes.Node]:
    """Text whose mathematics stands between dollar signs."""
    pieces = re.split(r"\$([^$]+)\$", text)
    return [nodes.math("", piece) if index % 2 else nodes.Text(piece) for index, piece in enumerate(pieces)]


def _note(text: str) -> list[nodes.Node]:
    return [nodes.inline("", "", *_prose(text), classes=["note-line"])] if text else []


def _cell(column: str) -> str:
    return f'<td role="cell" data-column="{column}">'


def _overview(chapters: list[board.Chapter]) -> str:
    """The chapters at a glance: a bar each, which leads to the chapter's part of the page."""

    def words(chapter: board.Chapter) -> str:
        return "no verdicts" if chapter.problem else f"{chapter.count('held')} of {len(chapter.results)} held"

    items = "".join(
        f'<li><a href="#board-{chapter.stem}">{html.escape(chapter.title)}</a>'
        f"{tally_bar(board.tally([chapter]))}<span>{words(chapter)}</span></li>\n"
        for chapter in chapters
    )
    return f'<nav class="board-overview" aria-label="Chapters on this page"><ul>\n{items}</ul></nav>'


def _filters(weeks: list[tuple[dict, list[board.Chapter]]]) -> str:
    """Three groups of buttons that can be pressed, hidden until the script can answer to them."""
    results = [result for _, chapters in weeks for chapter in chapters for result in chapter.results]
    verdicts = Counter(result.verdict for result in results)
    evidence = Counter(result.claim.evidence for result in results)
    week = [(part["key"], week_name(part), sum(len(c.results) for c in chapters)) for part, chapters in weeks]
    groups = {
        "week": ("Week", week),
        "verdict": ("Verdict", [(key, f"{SYMBOLS[key]} {key}", verdicts[key]) for key in board.VERDICTS]),
        "evidence": ("Evidence", [(key, name, evidence[key]) for key, name in EVIDENCE.items()]),
    }
    fields = "".join(
        f'<div role="group" aria-label="{title}"><b aria-hidden="true">{title}</b>'
        + "".join(
            f'<button type="button" aria-pressed="false" data-filter="{name}" data-value="{key}">'
            f"{html.escape(text)} <span>{number}</span></button>"
            for key, text, number in buttons
        )
        + "</div>\n"
        for name, (title, buttons) in groups.items()
    )
    return (
        f'<div class="board-filters" role="search" aria-label="Filter the claims" hidden>\n{fields}'
        f'<p><span role="status">{len(results)} claims</span> '
        '<button type="button" class="board-all" hidden>Show all</button></p></div>'
    )


# ---------------------------------------------------------------------------------- beside and behind the page

LINE = re.compile(r'(?<=<p class="claim-result")(?=><b>([^<]+)</b>)')
ROW = re.compile(r'(?<=<tr role="row")(?=><th scope="row" role="rowheader">([^<]+)</th>)')


def add_anchors(app, doctree: nodes.document) -> None:
    """Give every claim on a chapter's page an id: its last line of result or, without one, its row of a table."""
    taken = set()

    def name(match) -> str:
        if match[1] in taken:
            return ""
        taken.add(match[1])
        return f' id="{anchor(match[1])}"'

    outputs = [raw for raw in doctree.findall(nodes.raw) if raw.get("format") == "html"][::-1]
    for pattern in (LINE, ROW):
        for raw in outputs:
            if pattern.search(raw.astext()):
                markup = pattern.sub(name, raw.astext())
                raw.children[:] = [nodes.Text(markup)]
                raw.rawsource = markup
    if taken:
        app.env.note_dependency(__file__)


def add_script(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Load the filters' script on the one page that has filters."""
    if pagename == PAGE:
        app.add_js_file("scoreboard.js", loading_method="defer")


def write_json(app, error: Exception | None) -> None:
    """Write scoreboard.json beside the page, once the site is built."""
    builder = app.builder
    if error is not None or builder.format != "html" or PAGE not in app.env.found_docs:
        return

    def link(chapter: board.Chapter, claim: str) -> str:
        return f"{builder.get_relative_uri(PAGE, f'book/{chapter.part}/{chapter.stem}')}#{anchor(claim)}"

    found = {
        "$schema": "../_static/scoreboard.schema.json",
        "title": app.config.project,
        "claims": board.rows(board.chapters(Path(app.srcdir)), link),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    Path(builder.outdir, f"{PAGE}.json").write_text(text + "\n", encoding="utf-8")


def setup(app) -> dict:
    """Register the directive, and what has to happen on other pages and after the last."""
    app.add_directive("scoreboard", Scoreboard)
    app.connect("doctree-read", add_anchors)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_json)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
