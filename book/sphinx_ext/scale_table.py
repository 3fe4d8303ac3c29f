"""What the chapters cost at the paper's scale, made from book/scale.yml and records/ whenever the site is built.

``{scale-table}``   a row for each chapter, with times that follow from its parts by the machines' rates, and a row for
                    each recorded run, with what it took
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path

import recorded
import yaml
from course_pages import BookDirective, _raw
from docutils import nodes

from lessons_lib import records

FILE = Path("book", "scale.yml")
ESTIMATED, MEASURED = "≈", "●"
MACHINE = {"name", "cores", "gpu", "thin", "call", "memory_gb"}
CHAPTER = {"parameters", "data", "networks", "memory_gb", "parts"}
TRAINING = {"what", "rate", "runs", "epochs", "samples", "batch", "multiply_adds", "layers"}
KINDS = (TRAINING, {"what", "rate", "flops"}, {"what", "core_seconds"}, {"what", "serial_seconds"})
MAY = {"chapter": {"assumes"}, "training": {"fits", "evaluations", "tests"}}
WORDS = {"gpu": "", "thin": ", thin layers", "cpu": ", on the processor", "float64": ", float64"}
RATES = tuple(WORDS)
UNITS = ((365.25 * 86_400, "years"), (30.44 * 86_400, "months"), (86_400, "days"), (3_600, "h"), (60, "min"))


class ScaleError(ValueError):
    """book/scale.yml lacks a field, or has a field, a chapter or a rate that means nothing."""


# ------------------------------------------------------------------------------------------ what is counted


def read_scale(book: Path, stems: set[str]) -> dict:
    """What book/scale.yml holds; raises ScaleError, naming the place, for a bad field or a chapter not in ``stems``."""
    found = yaml.safe_load((book / FILE).read_text(encoding="utf-8"))
    _fields("the file", found, {"core", "machines", "chapters"})
    _fields("core", found["core"], set(RATES))
    for machine in found["machines"]:
        _fields(f"machine {machine.get('name', '')!r}", machine, MACHINE)
    if unknown := sorted(set(found["chapters"]) - stems):
        raise ScaleError(f"{FILE} has chapters that the book has not: {', '.join(unknown)}")
    # A chapter that somebody has just begun may be absent; the book's tests ask for it.
    for stem, chapter in found["chapters"].items():
        _fields(stem, chapter, CHAPTER, MAY["chapter"])
        for part in chapter["parts"]:
            place = f"{stem}, part {part.get('what', '')!r}"
            kind = next((fields for fields in KINDS if fields <= set(part)), TRAINING)
            _fields(place, part, kind, MAY["training"] if kind is TRAINING else set())
            if part.get("rate", "gpu") not in RATES:
                raise ScaleError(f"{FILE}: {place} has the rate {part['rate']!r}; there are: {', '.join(RATES)}")
            if wrong := [name for name in set(part) - {"what", "rate"} if not _positive(part[name])]:
                raise ScaleError(f"{FILE}: {wrong[0]} of {place} is {part[wrong[0]]!r}, not a positive number")
    return found


def _fields(place: str, given: object, must: set[str], may: set[str] = frozenset()) -> None:
    if not isinstance(given, Mapping):
        raise ScaleError(f"{FILE}: {place} is no mapping")
    if missing := sorted(must - set(given)):
        raise ScaleError(f"{FILE}: {place} lacks {', '.join(missing)}")
    if unknown := sorted(set(given) - must - may):
        raise ScaleError(f"{FILE}: {place} has {', '.join(unknown)}, which means nothing there")


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def flops(part: Mapping) -> float:
    """The arithmetic of a part: three forward passes a training sample, one a sample that is evaluated."""
    if "flops" in part:
        return part["flops"]
    trained = 3 * part["epochs"] * part["samples"]
    evaluated = part.get("evaluations", 0) * (part["samples"] + part.get("tests", 0))
    return 2 * part["runs"] * part["multiply_adds"] * (trained + evaluated)


def calls(part: Mapping) -> float:
    """Calls of PyTorch, one after another: forty a step, and four for each layer."""
    steps = part.get("fits", part["runs"]) * part["epochs"] * math.ceil(part["samples"] / part["batch"])
    return steps * (40 + 4 * part["layers"])


def seconds(part: Mapping, machine: Mapping, core: Mapping) -> float:
    """The time of a part: of its arithmetic or of its calls, whichever takes longer, since a GPU does both at once."""
    if "serial_seconds" in part:
        return part["serial_seconds"]
    if "core_seconds" in part:
        return part["core_seconds"] / machine["cores"]
    kind = part["rate"]
    rate = machine[kind] if kind in machine else core[kind] * machine["cores"]
    return max(flops(part) / rate, calls(part) * machine["call"] if "layers" in part else 0.0)


def chapter_seconds(chapter: Mapping, machine: Mapping, core: Mapping) -> float:
    """The time of a chapter: the sum of its parts'."""
    return sum(seconds(part, machine, core) for part in chapter["parts"])


# ------------------------------------------------------------------------------------------ in words


def one_digit(value: float) -> str:
    """A number rounded to one digit that counts: 437 is 400."""
    return f"{float(f'{value:.0e}'):,g}"


def time(value: float) -> str:
    """Seconds in the largest unit of which there are one and a half: 3 h, 20 days."""
    for size, name in UNITS:
        if value >= 1.5 * size:
            return f"{one_digit(value / size)} {name}"
    return "a minute or less"


def measured_time(value: float) -> str:
    """The seconds of a recorded run, to the minute."""
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{value:.0f} s"


def memory(gigabytes: float) -> str:
    """Gigabytes in words."""
    return f"{gigabytes:,.0f} GB" if gigabytes >= 10 else f"{gigabytes:.2g} GB"


def power(value: float) -> str:
    """An amount of arithmetic: 3 × 10^15."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa} × 10<sup>{int(exponent)}</sup>"


def _mark(measured: bool) -> str:
    sign, word = (MEASURED, "measured") if measured else (ESTIMATED, "estimated")
    shown = f'<span class="scale-mark" title="{word}" aria-hidden="true">{sign}</span>'
    return f'{shown}<span class="sr-only">{word} </span>'


def _cell(column: str, words: str, *, measured: bool, spans: int = 1) -> str:
    over = f' colspan="{spans}"' if spans > 1 else ""
    return f'<td data-column="{html.escape(column)}"{over}>{_mark(measured)}{words}</td>'


def counted(chapter: Mapping) -> str:
    """What an estimate counts, folded."""
    lines = []
    for part in chapter["parts"]:
        if "serial_seconds" in part:
            amount = f"{part['serial_seconds']:,} s of one core"
        elif "core_seconds" in part:
            amount = f"{part['core_seconds']:,} s of a core, on all cores"
        else:
            kind = {"gpu": "", "thin": ", thin layers", "cpu": ", on the processor", "float64": ", float64"}[
                part["rate"]
            ]
            amount = f"{power(flops(part))} FLOPs{kind}"
        lines.append(f"<li>{html.escape(part['what'])}: {amount}</li>")
    assumed = f"<p>Assumed: {html.escape(chapter['assumes'])}.</p>" if "assumes" in chapter else ""
    return f"<details><summary>What is counted</summary><ul>{''.join(lines)}</ul>{assumed}</details>"


def estimated_row(chapter: Mapping, found: Mapping) -> str:
    """The cells of a chapter's row but for its name."""
    cells = [
        f'<td data-column="Paper scale"><p>{html.escape(chapter["data"][:1].upper() + chapter["data"][1:])}.</p>'
        f"<p>Networks: {html.escape(chapter['networks'])}.</p>{counted(chapter)}</td>",
        _cell("Memory", memory(chapter["memory_gb"]), measured=False),
    ]
    for machine in found["machines"]:
        words = time(chapter_seconds(chapter, machine, found["core"]))
        if chapter["memory_gb"] > machine["memory_gb"]:
            words += '<span class="scale-note">too little memory</span>'
        cells.append(_cell(machine["name"], words, measured=False))
    return "".join(cells)


def measured_row(record: records.Record, address: str, columns: int) -> str:
    """A recorded run: what it read, what it held, and its time over the columns of all machines."""
    run = record.run
    smaller = " Smaller than the paper's." if run["parameters"] else ""
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    where = f"{run['machine']}, {threads}".replace("'", "’")
    took = f'{measured_time(run["seconds"])}<span class="scale-note">{html.escape(where)}</span>'
    read = html.escape(record.data or "made on the spot")
    return (
        f'<tr class="scale-measured"><th scope="row"><a href="{html.escape(address)}">a recorded run</a></th>'
        f'<td data-column="Sizes"><p>Data: {read}.{smaller.replace(chr(39), "’")}</p></td>'
        f"{_cell('Memory', memory(run['peak_memory_mb'] / 1000), measured=True)}"
        f"{_cell('Time', took, measured=True, spans=columns)}</tr>"
    )


class ScaleTable(BookDirective):
    """``{scale-table}``: legend, table and the rates behind it."""

    def build(self) -> list[nodes.Node]:
        """A legend, the table, and what the machines are taken to do."""
        book = Path(self.env.srcdir)
        for read in (book / FILE, Path(__file__)):
            self.env.note_dependency(str(read))
        try:
            found = read_scale(book, {row["chapter"] for part in self.parts for row in part["rows"]})
        except ScaleError as problem:
            raise self.error(str(problem)) from None
        machines = found["machines"]
        titles = ["Chapter", "Paper scale", "Memory", *(machine["name"] for machine in machines)]
        head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
        rows = []
        for stem, chapter in self.chapters.items():
            if stem not in found["chapters"]:
                continue
            address = self.env.app.builder.get_relative_uri(self.env.docname, f"book/{chapter.part}/{stem}")
            name = f'<th scope="row"><a href="{address}">{html.escape(stem)}</a></th>'
            rows.append(f"<tr>{name}{estimated_row(found['chapters'][stem], found)}</tr>")
            for record in chapter.records:
                if not record.problem:
                    rows.append(measured_row(record, f"{address}#{recorded.anchor(record)}", len(machines)))
        table = f'<table class="scale-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        legend = nodes.paragraph(
            "",
            f"{ESTIMATED} estimated by counting, rounded to one digit; {MEASURED} measured, by a recorded run. "
            "“Too little memory”: the machine has less than the estimate; set smaller sizes.",
        )
        box = f'<div class="scale-box" role="region" aria-label="Costs at paper scale" tabindex="0">{table}</div>'
        return [legend, _raw(box), *self._rates(found)]

    @staticmethod
    def _rates(found: Mapping) -> list[nodes.Node]:
        """What the times are made with, a line a machine."""
        items = nodes.bullet_list()
        core = found["core"]
        for machine in found["machines"]:
            share = {kind: core[kind] * machine["cores"] for kind in ("cpu", "float64")}
            said = (
                f"{machine['name']}: {one_or_two(machine['gpu'])} FLOP/s in training, {one_or_two(machine['thin'])} "
                f"with thin layers; {one_or_two(share['cpu'])} on the processor, {one_or_two(share['float64'])} there "
                f"in float64; {machine['call'] * 1e6:g} µs a call; {machine['memory_gb']} GB of memory."
            )
            items += nodes.list_item("", nodes.paragraph("", said))
        return [items]


def one_or_two(value: float) -> str:
    """A rate with its prefix: 165 G, 2.4 T."""
    return f"{value / 1e12:.2g} T" if value >= 1e12 else f"{value / 1e9:.3g} G"


def setup(app) -> dict:
    """Register the directive with Sphinx."""
    app.add_directive("scale-table", ScaleTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
