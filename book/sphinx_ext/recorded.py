"""Puts a chapter's recorded runs into its section "Bigger", and what other base seeds said below its verdicts.

They are read from records/ while the page is, so that no stored notebook has to hold them, and every page that shows
them is read again when a record changes, comes or goes.
"""

from __future__ import annotations

import html
from pathlib import Path

from course_pages import _raw  # first: it puts this checkout's lessons_lib on the path
from docutils import nodes
from sphinx.util import logging

from lessons_lib import board, other_seeds, records
from lessons_lib.claims import Result, _prose, _small, _table, verdict_markup

logger = logging.getLogger(__name__)

SECTION = "Bigger"
VERDICTS = "Verdicts"
COLUMNS = ("Id", "Claim", "Lesson scale", "Recorded")


def add_records(app, doctree: nodes.document) -> None:
    """Append recorded runs to the section ``SECTION`` of a chapter's page, what other seeds said to its verdicts."""
    path, book = Path(app.env.doc2path(app.env.docname)), Path(app.srcdir)
    if path.suffix != ".ipynb":
        return
    for part in (__file__, records.__file__, other_seeds.__file__, *records.files(book)):
        app.env.note_dependency(str(part))
    chapter = board.with_runs(board.read_chapter(path), book)
    if chapter.repeats_problem:
        logger.warning(chapter.repeats_problem, location=app.env.docname)
    for section in _sections(doctree, VERDICTS)[-1:]:
        # After the table, which is the first thing there, and before what is said of it.
        section.insert(2, repeated(chapter))
    sections = _sections(doctree, SECTION)
    for record in chapter.records:
        if record.problem:
            logger.warning(record.problem, location=app.env.docname)
        elif not sections:
            logger.warning(f"no section {SECTION!r} to put {record.name} into", location=app.env.docname)
        else:
            sections[-1] += shown(chapter, record)


def _sections(doctree: nodes.document, title: str) -> list[nodes.section]:
    return [each for each in doctree.findall(nodes.section) if each[0].astext() == title]


def repeated(chapter: board.Chapter) -> list[nodes.Node]:
    """A paragraph on the verdicts at other base seeds, and which claims changed theirs; empty where none were tried."""
    if not chapter.repeats:
        return []
    found = board.steadiness([chapter])
    seeds = ", ".join(str(repeat.seed) for repeat in chapter.repeats)
    said = nodes.paragraph("", "", nodes.strong("", "At other seeds."), classes=["other-seeds"])
    said += nodes.Text(
        f" Other base seeds of the book ({seeds}) gave {found.same} of {found.verdicts} verdicts on measured claims "
        "as above"
    )
    before = ". The exceptions, and what the means of all base seeds decide together: "
    for result in chapter.results:
        claim, verdicts = result.claim.id, other_seeds.verdicts(result, chapter.repeats)
        if set(verdicts) - {result.verdict}:
            link = nodes.reference("", claim, refid=f"claim-{claim}", internal=True)
            whole = other_seeds.together(result, chapter.repeats)
            last = f"; together {whole.verdict}" if whole else ""
            said += [nodes.Text(before), link, nodes.Text(f" ({', '.join(verdicts)}{last})")]
            before = ", "
    said += nodes.Text(".")
    return [said]


def anchor(record: records.Record) -> str:
    """The id of a record's table on its chapter's page."""
    return nodes.make_id(f"recorded-{record.name}")


def shown(chapter: board.Chapter, record: records.Record) -> list[nodes.Node]:
    """One recorded run: a sentence, the command that repeats it, and the table of verdicts."""
    counts = ", ".join(
        f"{number} {verdict}"
        for verdict in board.VERDICTS
        if (number := sum(result.verdict == verdict for result in record.results.values()))
    )
    smaller = " It is smaller than the paper's own experiment." if record.run["parameters"] else ""
    said = nodes.paragraph("", "", nodes.strong("", "A recorded run"), ids=[anchor(record)])
    said += nodes.Text(f" at {record.run['scale']} scale: {counts}.{smaller} This command repeats it:")
    command = nodes.literal_block(record.command, record.command, language="none", classes=["recorded-command"])
    return [said, command, _raw(table(chapter, record))]


def table(chapter: board.Chapter, record: records.Record) -> str:
    """The verdicts side by side, as HTML; a claim's id leads to the place where the lesson measures it."""
    rows = [
        (
            f'<a href="#claim-{html.escape(result.claim.id)}">{html.escape(result.claim.id)}</a>',
            _prose(result.claim.statement),
            _cell(result),
            _cell(larger) + (_small("another verdict") if larger.verdict != result.verdict else ""),
        )
        for result in chapter.results
        if (larger := record.results.get(result.claim.id))
    ]
    unset = ", ".join(f"{name} = {value!r}" for name, value in record.unset.items())
    sizes = f" Sizes that the command leaves as they are: {unset}." if record.run["parameters"] and unset else ""
    caption = html.escape(" ".join(record.facts) + sizes)
    return '<div class="recorded">' + _table("Recorded run", caption, COLUMNS, rows) + "</div>"


def _cell(result: Result) -> str:
    return verdict_markup(result.verdict) + _small(html.escape(board.measured(result)))


def renew(app, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Every page, if there are other records than when they were read: a page can depend on no file to come."""
    names = [str(path) for path in records.files(Path(app.srcdir))]
    before, env.recorded_names = getattr(env, "recorded_names", names), names
    return [] if before == names else sorted(env.found_docs - added)


def setup(app) -> dict:
    """Register what has to happen when a page has been read."""
    app.connect("doctree-read", add_records)
    app.connect("env-get-outdated", renew)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
