"""What the library costs beside its peers, made from benchmarks/results.json whenever the site is built.

``{cost-run}``            when and on what the results were measured, and what was left out
``{cost-missed}``         how many aims were reached, and each that was not
``{cost-ratios} GROUP``   the comparisons of one group, with a drawing of each ratio
``{cost-slopes}``         how costs grow: a panel for each kind of work, then a table
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator
from datetime import date
from functools import cached_property
from pathlib import Path

from course_pages import _raw
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RESULTS = Path("benchmarks", "results.json")
LEAST, MOST = 0.5, 64.0  # the ends of a ratio's logarithmic scale; what lies beyond stands at the end
BAR, HEIGHT = 150, 18
PANEL, LEFT, RIGHT, TOP, BOTTOM = (300, 190), 54, 18, 10, 38  # a panel's size and its margins
MEMORY = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class FromResults(SphinxDirective):
    """A directive that shows something of the stored results; its page depends on them."""

    @cached_property
    def results(self) -> dict:
        """What ``python -m benchmarks --json`` wrote; an error of the directive where there is none."""
        path = Path(self.env.srcdir, RESULTS)
        for read in (path, Path(__file__)):
            self.env.note_dependency(str(read))
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise self.error(f"{RESULTS} cannot be read ({problem}); python -m benchmarks --json writes it.") from None


def text(words: str) -> str:
    """Words for the page: escaped, with the apostrophes of print."""
    return html.escape(words.replace("'", "’"), quote=False)


def number(value: float) -> str:
    """Three digits, with no exponent."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def memory(held: int | None) -> str:
    """Bytes in the unit that suits them; a dash for what is not known, or too little to be told."""
    unit = next((pair for pair in MEMORY if held is not None and held >= pair[0]), None)
    return f"{held / unit[0]:.0f} {unit[1]}" if unit else "–"


def ratios(results: dict) -> Iterator[tuple[dict, dict, dict]]:
    """Every ratio as (group, comparison, row)."""
    for group in results["groups"]:
        for comparison in group["comparisons"]:
            yield from ((group, comparison, row) for row in comparison["rows"] if "ratio" in row)


def faster(row: dict) -> str:
    """The ratio in digits: 3.69 [3.31, 4.07]."""
    return "{median:.2f} [{low:.2f}, {high:.2f}]".format(**row["ratio"])


# ------------------------------------------------------------------------------------------ in words


class Run(FromResults):
    """``{cost-run}``: date, machine and its load, versions, rounds, and the peers left out."""

    def run(self) -> list[nodes.Node]:
        """One paragraph."""
        found = self.results
        day = date.fromisoformat(found["date"])
        rounds = sorted({comparison["rounds"] for _, comparison, _ in ratios(found)})
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        load = found["load"]
        others = "process" if load == 1 else "processes"
        busy = f"While that ran, {load:g} {others} on average wanted a core. " if load is not None else ""
        said = (
            f"Measured on {day.day} {day:%B %Y} on {found['hardware']}, on {found['threads']} thread, each variant "
            f"{' or '.join(map(str, rounds))} times by turns after one run that does not count. {busy}"
            f"Versions: {versions}. "
        )
        said += f"Left out: {', '.join(found['left_out'])}." if found["left_out"] else "No peer was left out."
        return [nodes.paragraph("", said, classes=["cost-run"])]


class Missed(FromResults):
    """``{cost-missed}``: the aims that were not reached, by name."""

    def run(self) -> list[nodes.Node]:
        """A sentence and, where there is something to own up to, a list."""
        with_aim = [found for found in ratios(self.results) if found[2]["aim"] is not None]
        missed = [found for found in with_aim if not found[2]["reached"]]
        said = f"{len(with_aim) - len(missed)} of {len(with_aim)} aims were reached."
        if not missed:
            return [nodes.paragraph("", said)]
        items = nodes.bullet_list(classes=["cost-missed"])
        for group, comparison, row in missed:
            words = (
                f"{group['title']}, {comparison['title']}, against {row['name']}: {faster(row)} times as fast; "
                f"{row['aim']:g} was the aim."
            )
            items += nodes.list_item("", nodes.paragraph("", words.replace("'", "’")))
        return [nodes.paragraph("", f"{said} Missed:"), items]


# ------------------------------------------------------------------------------------------ ratios


def place(ratio: float) -> float:
    """Where a ratio stands across its drawing."""
    share = math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return 4 + share * (BAR - 8)


def drawing(row: dict) -> str:
    """A ratio as SVG: its range, its median, the line of equal speed, and the aim."""
    low, median, high = (place(row["ratio"][key]) for key in ("low", "median", "high"))
    middle = HEIGHT / 2
    said = f"{faster(row)} times as fast" + ("" if row["aim"] is None else f"; aim {row['aim']:g}")
    shapes = [f'<path class="axis" d="M0 {middle:g}H{BAR}"/>', f'<path class="even" d="M{place(1):.1f} 0V{HEIGHT}"/>']
    if row["aim"] is not None:
        shapes.append(f'<path class="aim" d="M{place(row["aim"]):.1f} 1V{HEIGHT - 1}"/>')
    shapes.append(f'<path class="range" d="M{low:.1f} {middle:g}H{high:.1f}"/>')
    shapes.append(f'<circle cx="{median:.1f}" cy="{middle:g}" r="4"/>')
    return (
        f'<svg class="cost-ratio" viewBox="0 0 {BAR} {HEIGHT}" role="img"><title>{said}</title>{"".join(shapes)}</svg>'
    )


def comparison_rows(comparison: dict) -> str:
    """A comparison as the body of a table: what was done, then a row a variant, ours last."""
    short, _, rest = comparison["unit"].partition(" ")  # "ms", "per model and step"
    notes = " ".join([comparison["accuracy"], *([f"Times are {rest}."] if rest else [])])
    note = f'<span class="note-line">{text(notes)}</span>'
    rows = [f'<tr><th class="cost-title" scope="rowgroup" colspan="4">{text(comparison["title"])}{note}</th></tr>']
    for row in comparison["rows"]:
        cells = [f'<th scope="row">{text(row["name"])}</th>', f"<td>{number(row['seconds'])} {short}</td>"]
        if "ratio" in row:
            cells.append(f"<td>{drawing(row)}{faster(row)}</td>")
            aim = "–"
            if row["aim"] is not None:
                verdict, sign = ("held", "✓ reached") if row["reached"] else ("failed", "✗ missed")
                aim = f'{row["aim"]:g} <span class="verdict verdict-{verdict}">{sign}</span>'
            cells.append(f"<td>{aim}</td>")
        else:
            cells.append('<td class="cost-ours">ours</td><td></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<tbody>{''.join(rows)}</tbody>"


class Ratios(FromResults):
    """``{cost-ratios} GROUP``: one table."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The table; a group that the results do not have is an error."""
        groups = {group["title"]: group["comparisons"] for group in self.results["groups"]}
        if self.arguments[0] not in groups:
            raise self.error(f"{RESULTS} has no group {self.arguments[0]!r}; it has: {', '.join(groups)}.")
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("Variant", "CPU time", "Ours is … times as fast", "Aim")
        )
        bodies = "".join(map(comparison_rows, groups[self.arguments[0]]))
        return [_raw(f'<table class="cost-table"><thead><tr>{head}</tr></thead>{bodies}</table>')]


# ------------------------------------------------------------------------------------------ slopes


def ticks(low: float, high: float) -> list[float]:
    """Round numbers of a logarithmic axis: 1, 2 and 5 times powers of ten, or those powers alone if these are many."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = [digit * power for power in powers for digit in (1, 2, 5)]
    for choice in (fine, powers):
        inside = [value for value in choice if low * 0.999 <= value <= high * 1.001]
        if 2 <= len(inside) <= 5:
            return inside
    return inside[:: math.ceil(len(inside) / 5)] if inside else [low]


def sentence(one: dict) -> str:
    """A line of a panel in words."""
    first, last = one["points"][0], one["points"][-1]
    return (
        f"{one['name']}: from {number(first['seconds'])} s for {first['size']:,} to {number(last['seconds'])} s for "
        f"{last['size']:,} {one['against']}, slope {exponent(one)}"
    )


def exponent(one: dict) -> str:
    """The slope in digits: 1.90 [1.85, 1.95]."""
    return "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**one["slope"])


def panel(name: str, lines: list[dict]) -> str:
    """One panel as SVG, logarithmic both ways: a line for each series, with a mark for each size."""
    width, height = PANEL
    sizes = [point["size"] for one in lines for point in one["points"]]
    times = [point["seconds"] for one in lines for point in one["points"]]
    left, right, low, high = min(sizes), max(sizes), min(times), max(times)

    def x(size):
        return LEFT + math.log(size / left) / math.log(right / left) * (width - LEFT - RIGHT)

    def y(seconds):
        return height - BOTTOM - math.log(seconds / low) / math.log(high / low) * (height - TOP - BOTTOM)

    floor = height - BOTTOM + 8
    shapes = [f'<path class="axis" d="M{LEFT - 8} {TOP}V{floor}H{width - RIGHT}"/>']
    for size in ticks(left, right):
        shapes.append(f'<path class="grid" d="M{x(size):.1f} {TOP}V{floor}"/>')
        shapes.append(f'<text x="{x(size):.1f}" y="{floor + 13}">{size:,.0f}</text>')
    for seconds in ticks(low, high):
        shapes.append(f'<path class="grid" d="M{LEFT - 8} {y(seconds):.1f}H{width - RIGHT}"/>')
        shapes.append(f'<text class="seconds" x="{LEFT - 11}" y="{y(seconds) + 4:.1f}">{seconds:g} s</text>')
    shapes.append(f'<text x="{(LEFT + width - RIGHT) / 2}" y="{height - 3}">{text(lines[0]["against"])}</text>')
    for index, one in enumerate(lines):
        at = [(x(point["size"]), y(point["seconds"])) for point in one["points"]]
        shapes.append(
            f'<path class="line line-{index}" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in at)}"/>'
            + "".join(mark(index, a, b) for a, b in at)
        )
    said = f"{name}. " + "; ".join(sentence(one) for one in lines) + "."
    picture = f'<svg viewBox="0 0 {width} {height}" role="img"><title>{text(said)}</title>{"".join(shapes)}</svg>'
    keys = "".join(
        f'<li><svg viewBox="0 0 24 12" aria-hidden="true"><path class="line line-{index}" d="M0 6H24"/>'
        f"{mark(index, 12, 6)}</svg> {text(one['name'])}, slope {one['slope']['mean']:.2f}</li>"
        for index, one in enumerate(lines)
    )
    return f'<div class="cost-panel"><b>{text(name)}</b>{picture}<ul>{keys}</ul></div>'


def mark(index: int, x: float, y: float) -> str:
    """The first series of a panel has dots, the second squares: colour is not all that tells them apart."""
    if index == 0:
        return f'<circle class="mark-0" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    return f'<rect class="mark-{index}" x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4"/>'


class Slopes(FromResults):
    """``{cost-slopes}``: the figure and its table."""

    def run(self) -> list[nodes.Node]:
        """A figure of one panel a kind of work; below it every series in digits."""
        panels: dict[str, list[dict]] = {}
        for one in self.results["slopes"]:
            panels.setdefault(one["panel"], []).append(one)
        rounds = sorted({one["rounds"] for one in self.results["slopes"]})
        drawn = "".join(panel(name, lines) for name, lines in panels.items())
        caption = (
            "CPU seconds on one thread; both axes are logarithmic, so that a power law is a straight line. "
            f"Each mark is the median of {' or '.join(map(str, rounds))} repeats."
        )
        figure = f'<figure class="cost-slopes"><div>{drawn}</div><figcaption>{caption}</figcaption></figure>'
        names = ("Work", "Slope, 95% interval", "At the end", "Memory at the largest")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        rows = "".join(
            f'<tr><th scope="row">{text(one["panel"].partition(",")[0])}: {text(one["name"])}<span class="note-line">'
            f"{one['points'][0]['size']:,} to {one['points'][-1]['size']:,} {text(one['against'])}</span></th>"
            f"<td>{exponent(one)}</td><td>{one['slope']['end']:.2f}</td>"
            f"<td>{memory(one['points'][-1]['bytes'])}</td></tr>"
            for one in self.results["slopes"]
        )
        table = f'<table class="cost-table cost-growth"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        return [_raw(figure), _raw(table)]


def setup(app) -> dict:
    """Register the directives."""
    app.add_directive("cost-run", Run)
    app.add_directive("cost-missed", Missed)
    app.add_directive("cost-ratios", Ratios)
    app.add_directive("cost-slopes", Slopes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
