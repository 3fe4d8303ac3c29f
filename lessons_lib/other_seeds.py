"""A chapter's claims at other base seeds of the book, kept in ``records/other-seeds/``: would they have said the same?

The stored verdicts are those of one base seed. ``python -m lessons_lib compare NAME --keep`` takes the values of every
claim from the runs at others, and the chapter's page and the scoreboard say how often the verdict was the same.
Verdicts are not kept: each is decided from its values by the rule that the chapter has now. All base seeds together
decide once more, by their means: these are independent whatever the seeds of one run share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lessons_lib import base_seeds, notebooks, records
from lessons_lib.claims import MIN_SEEDS, Result, decide
from lessons_lib.notebooks import BookError, Chapter

FOLDER = f"{records.FOLDER}/other-seeds"
_RUN = {"seed": int, "commit": str, "machine": str, "values": dict}


@dataclass(frozen=True)
class Repeat:
    """A run at another base ``seed``: its ``results`` by claim, and the commit and the processor that computed them."""

    seed: int
    commit: str
    machine: str
    results: Mapping[str, Result]


def keep(chapter: Chapter, book: Path | None = None) -> Path:
    """Write the chapter's file from its runs at lesson scale under ``runs/``; returns it.

    Raises BookError where there are no such runs, and for one of uncommitted code or of other claims than the chapter.
    """
    book = book or notebooks.root()
    found = base_seeds.runs(chapter, book)
    stored = notebooks.record(notebooks.read(chapter.path))
    if stored is None:
        raise BookError(f"{chapter.name} has no stored verdicts to stand beside")
    found.pop(0, None)  # the stored one
    runs = []
    for seed, run in found.items():
        if not run["clean"]:
            raise BookError(f"the run at seed {seed} is of code that was not committed; run it again")
        if _quantities(run["claims"]) != _quantities(stored["claims"]):
            raise BookError(f"the run at seed {seed} is of other claims than {chapter.name} has; run it again")
        values = {row["id"]: [float(f"{value:.9g}") for value in row["values"]] for row in run["claims"]}
        runs.append({"seed": seed, "commit": run["commit"], "machine": run["machine"], "values": values})
    text = {"chapter": chapter.name, "quantities": _quantities(stored["claims"]), "runs": runs}
    path = book / FOLDER / f"{chapter.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(records.dump(text), encoding="utf-8")
    return path


def of(chapter: str, chapter_rows: Sequence[Mapping], book: Path) -> tuple[Repeat, ...]:
    """A chapter's runs at other seeds, by seed, decided by the rules in ``chapter_rows``, its own record; or none.

    Raises BookError for a file that is damaged, or measured other quantities than the chapter does now.
    """
    path = book / FOLDER / f"{chapter}.json"
    if not path.is_file():
        return ()
    try:
        kept = records.parse(path)
        if kept["chapter"] != chapter:
            raise BookError(f"it is {kept['chapter']}'s")
        if kept["quantities"] != _quantities(chapter_rows):
            raise BookError("it is of other claims than the chapter's")
        return tuple(_repeat(run, chapter_rows) for run in kept["runs"])
    except (BookError, ValueError, LookupError, TypeError) as error:
        again = f"python -m lessons_lib run {chapter} --seed 1-4, then compare {chapter} --keep"
        raise BookError(f"{FOLDER}/{path.name} does not fit the chapter ({error}); {again}") from None


def _repeat(run: Mapping, rows: Sequence[Mapping]) -> Repeat:
    records.has("a run", run, _RUN)
    results = {row["id"]: decide({**row, "values": run["values"][row["id"]], "note": ""}) for row in rows}
    return Repeat(run["seed"], run["commit"], run["machine"], results)


def _quantities(rows: Sequence[Mapping]) -> dict[str, str]:
    return {row["id"]: row["quantity"] for row in rows}


def verdicts(result: Result, repeats: Sequence[Repeat]) -> list[str]:
    """What each other base seed said of a claim; empty for one that is not measured over seeds."""
    if result.claim.evidence != "measurement":
        return []
    return [repeat.results[result.claim.id].verdict for repeat in repeats]


def together(result: Result, repeats: Sequence[Repeat]) -> Result | None:
    """A measured claim decided by the means of all base seeds, the stored one first; None for fewer than five."""
    means = [result.mean, *(repeat.results[result.claim.id].mean for repeat in repeats)]
    if result.claim.evidence != "measurement" or len(means) < MIN_SEEDS:
        return None
    return decide({**result.record(), "values": means, "note": ""})


def told(result: Result, repeats: Sequence[Repeat]) -> str:
    """How often another base seed gave a claim's verdict, in a few words; empty where none was tried."""
    if not (counts := Counter(verdicts(result, repeats))):
        return ""
    seeds = f"{len(repeats)} other base seed{'s'[: len(repeats) > 1]}"
    if set(counts) == {result.verdict}:
        return f"the same at {seeds}"
    whole = together(result, repeats)
    last = f"; all together: {whole.verdict}" if whole else ""
    return f"at {seeds}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()) + last
