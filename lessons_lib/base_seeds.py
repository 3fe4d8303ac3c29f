"""Would another seed of the book have said the same? A chapter's runs at several base seeds, side by side.

A claim's interval comes from the seeds within one run. It says where another run's mean lies only if those seeds share
nothing that another run draws anew: one set of images for all, say, or one teacher. One-way analysis of variance tells:
its F is the variance of the runs' means over the one that the values within runs allow for, about 1 if all is well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import f_oneway

from lessons_lib import notebooks, records
from lessons_lib.claims import SYMBOLS
from lessons_lib.notebooks import BookError, Chapter

UNLIKELY = 0.05


@dataclass(frozen=True)
class Comparison:
    """One claim at several base seeds.

    ``verdicts`` one a base seed; ``f`` and ``p`` of the analysis of variance, NaN where it has no meaning: for
    exact evidence, and where values do not vary at all.
    """

    claim: str
    verdicts: tuple[str, ...]
    f: float
    p: float


def runs(chapter: Chapter, book: Path | None = None) -> dict[int, dict]:
    """Records of a chapter's runs at lesson scale with its own parameters, by base seed: the stored one, and runs/.

    Raises BookError where there are fewer than two, and for a file that is not JSON.
    """
    book = book or notebooks.root()
    stored = notebooks.record(notebooks.read(chapter.path))
    found = {0: stored} if stored else {}
    for path in sorted(book.glob(f"runs/{chapter.name}-lesson-seed*/verdicts.json")):
        if seed := re.fullmatch(r".*-seed(\d+)", path.parent.name):
            found[int(seed[1])] = records.parse(path)
    if len(found) < 2:
        raise BookError(
            f"there is nothing to compare {chapter.name} with; `python -m lessons_lib run {chapter.name} --seed 1-4` "
            "runs it at other seeds"
        )
    return dict(sorted(found.items()))


def compare(found: Mapping[int, Mapping]) -> list[Comparison]:
    """Every claim that all of these records, by base seed, have under one rule."""
    rows = [{row["id"]: row for row in record["claims"]} for record in found.values()]
    result = []
    for claim, first in rows[0].items():
        same = [row[claim] for row in rows if claim in row and row[claim]["rule"] == first["rule"]]
        if len(same) == len(rows):
            result.append(Comparison(claim, tuple(row["verdict"] for row in same), *_variance(same)))
    return result


def _variance(rows: list[Mapping]) -> tuple[float, float]:
    values = [np.log(row["values"]) if row["log"] else np.asarray(row["values"]) for row in rows]
    if rows[0]["evidence"] != "measurement" or not any(np.ptp(each) for each in values):
        return float("nan"), float("nan")
    found = f_oneway(*values)
    return float(found.statistic), float(found.pvalue)


def text(chapter: Chapter, book: Path | None = None) -> str:
    """The comparison as a table for a terminal. Raises BookError as ``runs`` does."""
    found = runs(chapter, book)
    compared = compare(found)
    lines = [f"{chapter.name} at seeds {', '.join(map(str, found))}"]
    for each in compared:
        symbols = " ".join(SYMBOLS[verdict] for verdict in each.verdicts)
        told = "" if np.isnan(each.f) else f"F {each.f:6.2f}  p {each.p:.3f}"
        lines.append(f"  {each.claim:5} {symbols}   {told}{'  *' if each.p < UNLIKELY else ''}".rstrip())
    changed = sum(len(set(each.verdicts)) > 1 for each in compared)
    tested = [each.p for each in compared if not np.isnan(each.p)]
    lines.append(
        f"  {changed} of {len(compared)} change their verdict. Means vary more than their intervals allow (*) in "
        f"{sum(p < UNLIKELY for p in tested)} of {len(tested)}; by chance it would be {UNLIKELY * len(tested):.1f}."
    )
    return "\n".join(lines)
