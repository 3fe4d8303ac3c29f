"""A claim's result as a small drawing: the region where it holds, what no effect would give, and what came out.

The drawing is SVG that needs no script. It takes its colours from book.css, and every number in it is said in words
by its title. Each claim has a scale of its own, on which everything that decides it can be told apart.
"""

from __future__ import annotations

import html
import math

from lessons_lib.board import numbers
from lessons_lib.claims import Result, _number

WIDTH, HEIGHT, MARGIN = 200, 36, 20
TOP, BOTTOM = 2, 22  # of the band in which region and interval are drawn; numbers stand below it
MIDDLE = (TOP + BOTTOM) / 2
MARK = 3.5  # half the width of a dot or a square
FAR = 0.15  # a null that would squeeze all else into less of the scale than this stands at the margin instead
ROOM = 50  # for the null's arrow and number at the margin
CHARACTER = 5.6  # the width of a digit, about: enough to see whether two numbers would touch


class Axis:
    """Where the numbers of one claim stand across its drawing: by value, or by logarithm for a claim on logarithms.

    The region's finite edges and the interval are always within the margins. ``far`` is "" where the null is too,
    and otherwise the side, "left" or "right", on which it lies beyond the drawing.
    """

    def __init__(self, result: Result):
        claim = result.claim
        self.log = claim.log
        near = [self._scaled(value) for value in (*claim.holds.edges, result.low, result.high)]
        near = [value for value in near if math.isfinite(value)]
        self.start, self.end = min(near), max(near)
        self.far = ""
        if claim.null is not None:
            null = self._scaled(claim.null)
            start, end = min(self.start, null), max(self.end, null)
            if math.isinf(null) or 0 < self.end - self.start < FAR * (end - start):
                self.far = "left" if null < self.start else "right"
            else:
                self.start, self.end = start, end
        if self.start == self.end:  # one number only: it stands in the middle
            half = abs(self.start) or 1.0
            self.start, self.end = self.start - half, self.end + half

    def _scaled(self, value: float) -> float:
        if not self.log:
            return value
        return math.log(value) if value > 0 else -math.inf  # a log scale has no place for zero

    def __call__(self, value: float) -> float:
        """The distance of ``value`` from the drawing's left side; what lies beyond the drawing stands at its side."""
        share = (self._scaled(value) - self.start) / (self.end - self.start)
        left, right = (ROOM if self.far == side else MARGIN for side in ("left", "right"))
        return min(max(left + share * (WIDTH - left - right), 0.0), float(WIDTH))


def sentence(result: Result) -> str:
    """What the drawing shows, in words: mean, interval, region and null."""
    claim = result.claim
    # "holds above 0.5", but "holds at exactly 0".
    parts = [numbers(result), f"holds {claim.holds}".replace("holds exactly", "holds at exactly")]
    if claim.null is not None:
        parts.append(f"no effect {_number(claim.null)}")
    return "; ".join(parts)


def drawing(result: Result) -> str:
    """The result as SVG: what was measured is a dot in its interval, what was computed a square in its range."""
    claim, axis = result.claim, Axis(result)
    start, end = map(axis, claim.holds.edges)
    edges = [edge for edge in dict.fromkeys(claim.holds.edges) if math.isfinite(edge)]
    shapes = [f'<rect class="region" x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{BOTTOM - TOP}"/>']
    shapes.append(f'<path class="axis" d="M0 {BOTTOM}H{WIDTH}"/>')
    shapes += [f'<path class="edge" d="M{axis(edge):.1f} {TOP}V{BOTTOM}"/>' for edge in edges]
    marked = [(axis(edge), edge, "edge") for edge in edges]
    if claim.null is not None:
        x, shape = _null(axis, claim.null)
        shapes.append(shape)
        marked.append((x, claim.null, "none"))
    shapes += _labels(marked)

    low, mean, high = axis(result.low), axis(result.mean), axis(result.high)
    if high - low > 2 * MARK:  # a narrower interval is hidden by its mark
        shapes.append(f'<path class="interval" d="M{low:.1f} {MIDDLE - 4:g}v8m0-4H{high:.1f}m0-4v8"/>')
    shapes.append(_mark(mean, claim.evidence))
    return (
        f'<svg class="forest verdict-{result.verdict}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{html.escape(sentence(result))}</title>{''.join(shapes)}</svg>"
    )


def _mark(x: float, evidence: str) -> str:
    if evidence == "measurement":
        return f'<circle cx="{x:.1f}" cy="{MIDDLE:g}" r="{MARK}"/>'
    return f'<rect x="{x - MARK:.1f}" y="{MIDDLE - MARK:g}" width="{2 * MARK:g}" height="{2 * MARK:g}"/>'


def _null(axis: Axis, null: float) -> tuple[float, str]:
    """Where the null stands, and a dashed line there, or at the side an arrow to where it lies."""
    if not axis.far:
        return axis(null), f'<path class="null" d="M{axis(null):.1f} {TOP - 2}V{BOTTOM + 2}"/>'
    side, step = (WIDTH - 1, -5) if axis.far == "right" else (1, 5)
    arrow = f'<path class="beyond" d="M{side + step} {MIDDLE - 5:g}L{side} {MIDDLE:g}L{side + step} {MIDDLE + 5:g}"/>'
    return float(side), arrow


def _labels(marked: list[tuple[float, float, str]]) -> list[str]:
    """Numbers below their marks; one that would touch an earlier one is left out, for the row says it too."""
    taken, texts = [], []
    for x, value, name in marked:
        text = _number(value)
        half = CHARACTER * len(text) / 2
        x = min(max(x, half), WIDTH - half)
        if all(abs(x - other) > half + width + 3 for other, width in taken):
            taken.append((x, half))
            texts.append(f'<text class="{name}" x="{x:.1f}" y="{HEIGHT - 3}">{text}</text>')
    return texts


def legend() -> str:
    """What the marks of a drawing mean, as a list."""
    middle = f"{MIDDLE:g}"
    marks = {
        "where the claim holds": f'<rect class="region" x="8" y="{TOP}" width="22" height="{BOTTOM - TOP}"/>'
        f'<path class="edge" d="M8 {TOP}V{BOTTOM}"/>',
        "no effect": f'<path class="null" d="M15 {TOP - 2}V{BOTTOM + 2}"/>',
        "no effect, farther off": f'<path class="beyond" d="M17 {MIDDLE - 5:g}L12 {middle}L17 {MIDDLE + 5:g}"/>',
        "mean over seeds, 95% interval": f'<path class="interval" d="M3 {MIDDLE - 4:g}v8m0-4H27m0-4v8"/>'
        + _mark(15, "measurement"),
        "computed exactly, or by construction": _mark(15, "exact"),
    }
    items = "".join(
        f'<li><svg class="forest" viewBox="0 0 30 {BOTTOM + 2}" aria-hidden="true">{mark}</svg> {words}</li>'
        for words, mark in marks.items()
    )
    return f'<ul class="forest-legend" aria-label="In the drawings">{items}</ul>'
