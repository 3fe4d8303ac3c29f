"""The scoreboard: every claim of every chapter, read out of the executed notebooks.

A chapter's verdicts lie in its notebook as a record (``lessons_lib.claims.RECORD_TYPE``) beside the table a
reader sees. Nothing is executed here and no verdict is copied by hand: each stored one is decided again from
the values and the rule stored with it, and a chapter whose record is absent, damaged or at odds with its own
values is shown with a message that says so, instead of its claims. Beside them stand the verdicts of recorded runs
(``lessons_lib.records``), where there are any.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from lessons_lib import notebooks, other_seeds, records
from lessons_lib.claims import EVIDENCE, SYMBOLS, ClaimError, Result, _number, decide

VERDICTS = tuple(SYMBOLS)
ENDS = ("mean", "low", "high", "n", "verdict")  # what a row tells of another run's result


@dataclass(frozen=True)
class Chapter:
    """One chapter's notebook and what became of its claims.

    ``results`` is empty where ``problem`` says why there are none. ``part`` is the folder under ``book/``,
    ``stem`` the file's name without its suffix, ``path`` the notebook, ``records`` its recorded runs, ``repeats`` its
    runs at other base seeds; none where ``repeats_problem`` says what is wrong with their file.
    """

    part: str
    stem: str
    title: str
    path: Path
    results: tuple[Result, ...] = ()
    scale: str = ""
    problem: str = ""
    records: tuple[records.Record, ...] = ()
    repeats: tuple[other_seeds.Repeat, ...] = ()
    repeats_problem: str = ""

    def begun(self, result: Result) -> str:
        """What a statement that begins with "..." goes on with: the statements before it; else empty."""
        place = [each.claim.id for each in self.results].index(result.claim.id)
        statements = [each.claim.statement for each in self.results[: place + 1]]
        chain = []
        while statements[-1].startswith("...") and len(statements) > 1:
            statements.pop()
            chain.insert(0, statements[-1])
        return " ".join(chain).replace("... ...", "...")

    def count(self, verdict: str) -> int:
        """How many claims came to ``verdict``."""
        return sum(result.verdict == verdict for result in self.results)

    def recorded(self, claim: str) -> list[tuple[records.Record, Result]]:
        """What recorded runs say of a claim."""
        return [(record, record.results[claim]) for record in self.records if claim in record.results]


def course(book: Path | None = None) -> list[dict]:
    """The parts of book/course.yml; each row gets ``file``, its notebook's path under ``book/``.

    A paper that two parts list has one notebook, in the part that names it first. ``book`` is the repository's
    folder, by default ``notebooks.root()``. Raises BookError for a file that is not YAML or a row that lacks
    one of ``paper``, ``venue``, ``url``, ``chapter``.
    """
    path = (book or notebooks.root()) / "book" / "course.yml"
    try:
        parts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise notebooks.BookError(f"{path} is not valid YAML: {error}") from None
    homes: dict[str, str] = {}
    for part in parts:
        for row in part["rows"]:
            missing = [name for name in ("paper", "venue", "url", "chapter") if not row.get(name)]
            if missing:
                raise notebooks.BookError(f"{path}: a row of {part['key']} lacks {', '.join(missing)}: {row}")
            row["file"] = homes.setdefault(row["chapter"], f"{part['key']}/{row['chapter']}.ipynb")
    return parts


def chapters(book: Path | None = None) -> list[Chapter]:
    """The chapters that exist, in the course's order, with their recorded runs."""
    book = book or notebooks.root()
    files = dict.fromkeys(row["file"] for part in course(book) for row in part["rows"])
    return [with_runs(read_chapter(path), book) for file in files if (path := book / "book" / file).is_file()]


def with_runs(chapter: Chapter, book: Path) -> Chapter:
    """The chapter with its recorded runs and those at other seeds; one whose own verdicts cannot be read has none."""
    if not (rows := [result.record() for result in chapter.results]):
        return chapter
    chapter = replace(chapter, records=records.of(chapter.stem, rows, book))
    try:
        return replace(chapter, repeats=other_seeds.of(chapter.stem, rows, book))
    except notebooks.BookError as error:
        return replace(chapter, repeats_problem=str(error))


def read_chapter(path: Path) -> Chapter:
    """The chapter in the notebook at ``path``, its last stored record decided again.

    What is wrong with the notebook or the record goes into ``problem``; nothing is raised.
    """
    found = {"part": path.parent.name, "stem": path.stem, "title": path.stem, "path": path}
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        found["title"] = notebooks.title(notebook) or path.stem
        record = notebooks.record(notebook)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"is not a notebook that can be read ({type(error).__name__}: {error})"
        return Chapter(**found, problem=f"{path.stem} {problem}.")
    if record is None:
        problem = f"holds no verdicts; execute it: python -m lessons_lib store {path.stem}"
        return Chapter(**found, problem=f"{path.stem} {problem}.")
    try:
        if record["chapter"] != path.stem:
            raise ClaimError(f"it is signed {record['chapter']!r}")
        results = tuple(decide(row) for row in record["claims"])
        for row, result in zip(record["claims"], results, strict=True):
            if row["verdict"] != result.verdict:
                raise ClaimError(f"it says that {row['id']} {row['verdict']}, its values say {result.verdict}")
        return Chapter(**found, results=results, scale=record["scale"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        problem = f"has a damaged record: {reason}; execute it again: python -m lessons_lib store {path.stem}"
        return Chapter(**found, problem=f"{path.stem} {problem}.")


def numbers(result: Result) -> str:
    """What came out, as plain text: mean and interval, or the exact value or values from first to last."""
    if result.claim.evidence == "measurement":
        mean, low, high = (_number(end, result.high - result.low) for end in (result.mean, result.low, result.high))
        return f"{mean} [{low}, {high}]"
    return " to ".join(dict.fromkeys((_number(result.low), _number(result.high))))


def measured(result: Result) -> str:
    """``numbers``, with how many seeds or cases they are from and how they were come by."""
    if result.claim.evidence == "measurement":
        return f"{numbers(result)}, {result.n} seeds"
    cases = f", {result.n} cases" if result.n > 1 else ""
    return f"{numbers(result)}{cases}, {EVIDENCE[result.claim.evidence]}"


@dataclass(frozen=True)
class Steadiness:
    """Of measured claims at other base seeds: how many verdicts there are, are the stored one, and are its opposite."""

    verdicts: int
    same: int
    opposite: int


def steadiness(found: list[Chapter]) -> Steadiness:
    """How often another base seed gave the stored verdict, over all chapters."""
    pairs = [
        (result.verdict, other)
        for chapter in found
        for result in chapter.results
        for other in other_seeds.verdicts(result, chapter.repeats)
    ]
    return Steadiness(len(pairs), sum(a == b for a, b in pairs), sum({a, b} == {"held", "failed"} for a, b in pairs))


def tally(found: list[Chapter]) -> Counter:
    """How many claims came to each verdict, over all chapters."""
    return Counter({verdict: sum(chapter.count(verdict) for chapter in found) for verdict in VERDICTS})


def text(book: Path | None = None) -> str:
    """The scoreboard for a terminal: a block of lines a chapter, then the totals."""
    found = chapters(book)
    lines = []
    for chapter in found:
        lines.append(f"{chapter.title}  ({chapter.stem})")
        if chapter.problem:
            lines.append(f"  ! {chapter.problem}")
        width = max((len(result.claim.id) for result in chapter.results), default=0)
        for result in chapter.results:
            head = f"  {SYMBOLS[result.verdict]} {result.claim.id:<{width}}  {result.verdict:<9}"
            lines.append(f"{head}  {result.claim.statement}")
            lines.append(f"{'':{width + 17}}{measured(result)}; holds when {result.claim.holds}")
            if told := other_seeds.told(result, chapter.repeats):
                lines.append(f"{'':{width + 17}}{told}")
            for record, larger in chapter.recorded(result.claim.id):
                head = f"{'':{width + 5}}{SYMBOLS[larger.verdict]} {larger.verdict:<9}"
                lines.append(f"{head} {measured(larger)}; recorded in {record.name}")
        lines += [f"  ! {record.problem}" for record in chapter.records if record.problem]
        lines += [f"  ! {chapter.repeats_problem}"] * bool(chapter.repeats_problem)
        lines.append("")
    counts = ", ".join(f"{number} {verdict}" for verdict, number in tally(found).items())
    lines.append(f"{size(found)}: {counts}")
    return "\n".join(lines)


def as_json(book: Path | None = None) -> list[dict]:
    """The scoreboard as plain lists and dicts: the chapters, each with its claims or its problem.

    A measured claim has the verdicts at other base seeds, and what all say together, as in ``rows``.
    """
    return [
        {
            "chapter": chapter.stem,
            "part": chapter.part,
            "title": chapter.title,
            "scale": chapter.scale,
            "problem": chapter.problem,
            "claims": [result.record() | _at_other_seeds(chapter, result) for result in chapter.results],
            "records": [{"name": record.name, **record.run, "problem": record.problem} for record in chapter.records],
            "other_seeds_problem": chapter.repeats_problem,
        }
        for chapter in chapters(book)
    ]


def rows(found: list[Chapter], link: Callable[[Chapter, str], str]) -> list[dict]:
    """Every claim of the chapters as one flat row each; ``link(chapter, id)`` is the address of a claim's result.

    What recorded runs say of it is in the row's ``recorded``, and the verdicts at other base seeds in ``other_seeds``,
    where there are any; what all base seeds say by their means is in ``together``.
    """
    rows = []
    for chapter, result in ((each, result) for each in found for result in each.results):
        row = {"chapter": chapter.stem, "part": chapter.part, **result.record()}
        del row["values"]
        if begun := chapter.begun(result):
            row["begun"] = begun
        row["link"] = link(chapter, result.claim.id)
        if recorded := [_recorded(*pair) for pair in chapter.recorded(result.claim.id)]:
            row["recorded"] = recorded
        rows.append(row | _at_other_seeds(chapter, result))
    return rows


def _at_other_seeds(chapter: Chapter, result: Result) -> dict:
    """What other base seeds say of a claim, and all of them by their means; nothing where there are none."""
    found = {}
    if verdicts := other_seeds.verdicts(result, chapter.repeats):
        found["other_seeds"] = {str(each.seed): said for each, said in zip(chapter.repeats, verdicts, strict=True)}
    if whole := other_seeds.together(result, chapter.repeats):
        found["together"] = {name: whole.record()[name] for name in ENDS}
    return found


def _recorded(record: records.Record, result: Result) -> dict:
    """What one recorded run says of a claim, with what tells the run from others."""
    return {
        "record": record.name,
        **{name: record.run[name] for name in ("scale", "seed", "parameters", "commit", "machine")},
        "data": record.names,
        **{name: result.record()[name] for name in ENDS},
    }


def size(found: list[Chapter]) -> str:
    """How many chapters and claims there are, in words."""
    claims = sum(len(chapter.results) for chapter in found)
    return ", ".join(
        f"{number} {noun}" + ("" if number == 1 else "s")
        for number, noun in ((len(found), "chapter"), (claims, "claim"))
    )
