"""What a paper claims, the rule that decides it here, and what the measurements then say.

A chapter states its claims before it shows a result, measures each, and ends with the verdicts::

    claims = Claims(
        "rethinking-generalization",
        Claim("C1", "Networks fit random labels.", paper="100 % training accuracy (Table 1)",
              quantity="training accuracy on random labels", holds=above(0.99), null=0.1),
        Claim("C2", "Random labels slow training by a small factor.", paper="1.5 to 3.5 times (Fig. 1a)",
              quantity="steps on random labels over true ones", holds=between(1, 5), null=8, log=True),
    )
    claims                                            # the table of rules
    claims["C1"].measure(accuracy)                    # one value a seed
    claims["C2"].measure(steps_random, over=steps)    # paired: value i of both comes from seed i
    claims.verdicts()                                 # the table of verdicts, and its record

A measurement is decided by its 95 % t interval over seeds: the claim has **held** where the whole interval
lies in the region the rule names, **failed** where all of it lies outside, and is **undecided** where it
straddles an edge. Where there is no effect, a claim is then held in 2.5 % of all repetitions, if values
scatter evenly to both sides, as the difference of two like conditions always does. One long tail spoils that
(with five exponential values a rule "below the true mean" is held in 12 %), so quantities that have one, such
as steps, norms and ratios, are declared with ``log=True``. What is computed exactly, or true by construction,
needs no seeds: it has held if every value given lies in the region, and failed otherwise.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from lessons_lib.settings import settings

RECORD_TYPE = "application/vnd.lessons.claims+json"  # a chapter's record, beside its table of verdicts
RESULT_TYPE = "application/vnd.lessons.claim+json"  # one claim's row of it, beside its line in the text
MIN_SEEDS = 5
EVIDENCE = {
    "measurement": "measured over seeds",
    "exact": "computed exactly",
    "construction": "by construction",
}
SYMBOLS = {"held": "✓", "failed": "✗", "undecided": "?"}


class ClaimError(ValueError):
    """A claim is badly stated, or measured with something that cannot decide it."""


# ---------------------------------------------------------------------------------------------- the rules


@dataclass(frozen=True)
class Region:
    """Where a claim's quantity has to lie. Made by ``above``, ``below``, ``between`` and ``equal``."""

    kind: str
    bounds: tuple[float, ...]

    @property
    def edges(self) -> tuple[float, float]:
        """The lowest and the highest value; themselves inside for ``between`` and ``equal`` only."""
        first, last = self.bounds[0], self.bounds[-1]
        return {
            "above": (first, math.inf),
            "below": (-math.inf, first),
            "between": (first, last),
            "equal": (first - last, first + last),
        }[self.kind]

    def judge(self, low: float, high: float) -> str:
        """The verdict on the interval from ``low`` to ``high``."""
        start, end = self.edges
        if self.kind in ("above", "below"):
            inside, outside = start < low and high < end, high <= start or low >= end
        else:
            inside, outside = start <= low and high <= end, high < start or low > end
        return "held" if inside else "failed" if outside else "undecided"

    def __contains__(self, value: float) -> bool:
        return self.judge(value, value) == "held"

    def __str__(self) -> str:
        first, last = _number(self.bounds[0]), _number(self.bounds[-1])
        return {
            "above": f"above {first}",
            "below": f"below {first}",
            "between": f"between {first} and {last}",
            "equal": f"exactly {first}" if self.bounds[-1] == 0 else f"within {last} of {first}",
        }[self.kind]


def above(bound: float) -> Region:
    """Greater than ``bound``; the bound itself is outside."""
    return Region("above", (float(bound),))


def below(bound: float) -> Region:
    """Less than ``bound``; the bound itself is outside."""
    return Region("below", (float(bound),))


def between(low: float, high: float) -> Region:
    """From ``low`` to ``high``, both inside. Raises ClaimError unless ``low < high``."""
    if not low < high:
        raise ClaimError(f"between({low}, {high}): the first bound must be less than the second.")
    return Region("between", (float(low), float(high)))


def equal(value: float, tolerance: float) -> Region:
    """At most ``tolerance`` from ``value``; 0 means exactly. Raises ClaimError for a negative tolerance."""
    if not tolerance >= 0:
        raise ClaimError(f"equal({value}, {tolerance}): the tolerance must be 0 or more.")
    return Region("equal", (float(value), float(tolerance)))


# ---------------------------------------------------------------------------------------------- the claims


@dataclass
class Claim:
    """One claim of a paper and the rule that decides it.

    ``paper`` is what the paper reports and where; ``quantity`` what is measured here; ``holds`` the region.
    ``null`` is the quantity's value if there were no effect: a measurement has to state it, and it has to lie
    outside the region, or else the rule could not fail. ``log=True`` averages logarithms (a geometric mean),
    as ratios need. Text may hold mathematics between dollar signs. Raises ClaimError for a claim stated
    otherwise.
    """

    id: str
    statement: str
    paper: str = field(kw_only=True)
    quantity: str = field(kw_only=True)
    holds: Region = field(kw_only=True)
    evidence: str = field(default="measurement", kw_only=True)
    null: float | None = field(default=None, kw_only=True)
    log: bool = field(default=False, kw_only=True)
    result: Result | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        if not isinstance(self.holds, Region):
            raise ClaimError(f"{self.id}: holds must be above(a), below(a), between(a, b) or equal(a, tolerance).")
        if self.evidence not in EVIDENCE:
            raise ClaimError(f"{self.id}: evidence {self.evidence!r} is not one of: {', '.join(EVIDENCE)}.")
        if self.null is None and self.evidence == "measurement":
            raise ClaimError(f"{self.id}: state null, the value of the quantity if there were no effect.")
        if self.null is not None and not (math.isfinite(self.null) and self.null not in self.holds):
            raise ClaimError(
                f"{self.id}: the null is {self.null:g}, and the claim holds when {self.holds}. "
                "A null has to be a number outside that region, or data with no effect would pass."
            )

    def measure(self, values, *, minus=None, over=None, note: str = "") -> Result:
        """Decide the claim by ``values`` [seeds], one a seed, at least five; the last measurement counts.

        ``minus`` or ``over`` [seeds] pairs them: what is judged is each seed's difference or ratio. Exact
        evidence takes one number, or several [n], each of which has to satisfy the rule. ``note`` is shown in
        the table of verdicts, to say why a claim failed. Raises ClaimError for too few seeds, values that are
        not finite, unequal lengths, and for ratios without ``log=True``, whose plain mean leans upwards even
        where there is no effect.
        """
        judged = self._vector("values", values)
        if minus is not None and over is not None:
            raise ClaimError(f"{self.id}: give minus= or over=, not both.")
        if over is not None and self.evidence == "measurement" and not self.log:
            raise ClaimError(f"{self.id}: a mean of ratios leans upwards; declare the claim with log=True.")
        for name, other in (("minus", minus), ("over", over)):
            if other is None:
                continue
            other = self._vector(name, other)
            if len(other) != len(judged):
                raise ClaimError(
                    f"{self.id}: {len(judged)} values and {len(other)} in {name}=; pairs need equally many."
                )
            with np.errstate(divide="ignore", invalid="ignore"):
                judged = judged - other if name == "minus" else judged / other
            self._refuse(~np.isfinite(judged), judged, f"values after {name}=", "finite")
        if self.log:
            self._refuse(judged <= 0, judged, "values", "positive, as log=True requires")
        self.result = self._decide(judged, note)
        return self.result

    def _decide(self, values: np.ndarray, note: str) -> Result:
        if self.evidence == "measurement":
            if len(values) < MIN_SEEDS:
                raise ClaimError(f"{self.id}: {len(values)} seeds; an interval here needs at least {MIN_SEEDS}.")
            mean, low, high = (float(end) for end in t_interval(values, log=self.log))
            verdict = self.holds.judge(low, high)
        else:
            mean, low, high = float(values.mean()), float(values.min()), float(values.max())
            verdict = "held" if all(value in self.holds for value in values) else "failed"
        return Result(self, mean, low, high, tuple(values.tolist()), verdict, note)

    def _vector(self, name: str, values) -> np.ndarray:
        if hasattr(values, "detach"):  # a torch tensor, wherever it lies
            values = values.detach().cpu()
        vector = np.asarray(values, dtype=np.float64)
        if vector.ndim == 0 and self.evidence != "measurement":
            vector = vector[None]
        if vector.ndim != 1 or len(vector) == 0:
            kind = "one value a seed, shape [seeds]" if self.evidence == "measurement" else "one number, or a vector"
            raise ClaimError(f"{self.id}: {name} has shape {list(vector.shape)}; it must be {kind}.")
        self._refuse(~np.isfinite(vector), vector, name, "finite")
        return vector

    def _refuse(self, bad: np.ndarray, vector: np.ndarray, name: str, demand: str):
        if bad.any():
            named = ", ".join(f"[{index}] = {vector[index]:g}" for index in np.flatnonzero(bad)[:5])
            raise ClaimError(f"{self.id}: {name} must be {demand}; {bad.sum()} of {len(vector)} are not: {named}.")

    @classmethod
    def from_record(cls, row: dict) -> Claim:
        """The claim, not yet measured, of one row of a stored record."""
        kind, *bounds = row["rule"]
        names = ("id", "statement", "paper", "quantity", "evidence", "null", "log")
        return cls(**{name: row[name] for name in names}, holds=Region(kind, tuple(bounds)))


@dataclass(frozen=True)
class Result:
    """A claim's measurements and verdict; shown in a notebook as one line.

    ``mean``, ``low`` and ``high`` are the mean over seeds and its 95 % interval; for exact evidence the mean
    and the extremes of the values. ``values`` are what was judged: differences or ratios where conditions
    were paired.
    """

    claim: Claim
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    verdict: str
    note: str = ""

    @property
    def n(self) -> int:
        """How many seeds, or exact values, there are."""
        return len(self.values)

    def record(self) -> dict:
        """The row that leaves the notebook: plain numbers and text, enough to decide the claim again."""
        claim = self.claim
        return {
            "id": claim.id,
            "statement": claim.statement,
            "paper": claim.paper,
            "evidence": claim.evidence,
            "quantity": claim.quantity,
            "rule": [claim.holds.kind, *claim.holds.bounds],
            "log": claim.log,
            "null": claim.null,
            "n": self.n,
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "values": list(self.values),
            "verdict": self.verdict,
            "note": self.note,
        }

    def __str__(self) -> str:
        return f"{self.claim.id} {self.verdict}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        line = (
            f'<p class="claim-result"><b>{html.escape(self.claim.id)}</b> {verdict_markup(self.verdict)}: '
            f"{_prose(self.claim.quantity)}: {_measured(self)}; holds when {self.claim.holds}.</p>"
        )
        return {"text/plain": str(self), "text/html": line, RESULT_TYPE: self.record()}


class Claims:
    """A chapter's claims, in order; shown in a notebook as the table of what decides each.

    ``claims["C1"]`` is one of them; raises ClaimError for an id that is not there, or is there twice.
    """

    def __init__(self, chapter: str, *claims: Claim):
        ids = [claim.id for claim in claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ClaimError(f"{chapter} states more than one claim called {', '.join(twice)}.")
        self.chapter = chapter
        self._claims = dict(zip(ids, claims, strict=True))

    def __getitem__(self, name: str) -> Claim:
        if name not in self._claims:
            raise ClaimError(f"{self.chapter} has no claim {name!r}; its claims are {', '.join(self._claims)}.")
        return self._claims[name]

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())

    def verdicts(self) -> Verdicts:
        """The chapter's final table and record. Raises ClaimError naming the claims not yet measured."""
        if missing := [claim.id for claim in self if claim.result is None]:
            raise ClaimError(f"{self.chapter}: not measured yet: {', '.join(missing)}.")
        return Verdicts(self.chapter, tuple(claim.result for claim in self))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        rows = [
            (
                html.escape(claim.id),
                _prose(claim.statement),
                _prose(claim.paper),
                _prose(claim.quantity) + _small(EVIDENCE[claim.evidence]),
                str(claim.holds) + ("" if claim.null is None else _small(f"no effect: {_number(claim.null)}")),
            )
            for claim in self
        ]
        table = _table(
            "Claims",
            "Claims, and the rule that decides each",
            ("Id", "Claim", "The paper", "Measured here", "Holds when"),
            rows,
        )
        return {"text/plain": f"claims of {self.chapter}: {', '.join(self._claims)}", "text/html": table}


@dataclass(frozen=True)
class Verdicts:
    """What became of a chapter's claims: a table, and the record that the scoreboard reads."""

    chapter: str
    results: tuple[Result, ...]

    def record(self) -> dict:
        """The chapter's record, with the scale and base seed it was measured at."""
        return {
            "chapter": self.chapter,
            "scale": settings.scale,
            "seed": settings.seed,
            "claims": [result.record() for result in self.results],
        }

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        rows = [
            (
                html.escape(result.claim.id),
                _prose(result.claim.statement) + (_small(_prose(result.note)) if result.note else ""),
                _prose(result.claim.paper),
                _measured(result) + _small(f"holds when {result.claim.holds}"),
                verdict_markup(result.verdict),
            )
            for result in self.results
        ]
        caption = f"Verdicts, by mean and 95 % interval ({settings.scale} scale, base seed {settings.seed})"
        table = _table("Verdicts", caption, ("Id", "Claim", "The paper", "Here", "Verdict"), rows)
        return {"text/plain": str(self), "text/html": table, RECORD_TYPE: self.record()}


# ------------------------------------------------------------------------------- intervals, decided again


def t_interval(values, *, log: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high end of the two-sided 95 % t interval over the seeds of ``values`` [n >= 2, ...].

    With ``log`` the interval of the logarithms, carried back: geometric mean and its ends. The seeds must be
    independent. Equal values give an interval of no width.
    """
    values = np.asarray(values, dtype=np.float64)
    scaled = np.log(values) if log else values
    # stdtrit is the t distribution's quantile; scipy.stats has it too but takes a second to import.
    half = stdtrit(len(values) - 1, 0.975) * scaled.std(axis=0, ddof=1) / math.sqrt(len(values))
    mean = scaled.mean(axis=0)
    ends = mean, mean - half, mean + half
    # The mean of equal numbers can round away from them, and so over the edge of a region.
    same = values.min(axis=0) == values.max(axis=0)
    return tuple(np.where(same, values[0], np.exp(end) if log else end) for end in ends)


def decide(row: dict) -> Result:
    """Decide one row of a stored record again, from its values and its rule alone."""
    return Claim.from_record(row).measure(row["values"], note=row["note"])


def reproduces(fresh: dict, stored: dict) -> bool:
    """Whether two rows of records say the same of one claim: the same code and seeds, on any two machines.

    Processors round differently, and training amplifies the last bit until the two runs are in effect two
    draws. So a measured claim close to an edge of its region can be held here, undecided there, and nothing is wrong.
    The rows agree if their verdicts do; or if one of the two is undecided and the means are no farther apart than
    the root of the sum of the squared half-widths of 99 % intervals. (Independent draws are farther apart in some
    3 cases of 1,000: hundreds of claims are compared on every machine, and some dozens of them lie near an edge.)
    What held never agrees with what failed, nor a stored verdict with anything if its own values say otherwise.
    """
    verdicts = {fresh["verdict"], stored["verdict"]}
    if decide(stored).verdict != stored["verdict"]:
        return False
    if len(verdicts) == 1:
        return True
    if "undecided" not in verdicts or stored["evidence"] != "measurement":
        return False
    (here, *ends_here), (there, *ends_there) = (
        [math.log(row[key]) if row["log"] else row[key] for key in ("mean", "low", "high")] for row in (fresh, stored)
    )
    wider = [stdtrit(row["n"] - 1, 0.995) / stdtrit(row["n"] - 1, 0.975) for row in (fresh, stored)]
    half_widths = [ratio * (high - low) / 2 for ratio, (low, high) in zip(wider, (ends_here, ends_there), strict=True)]
    return abs(here - there) <= math.hypot(*half_widths)


# ---------------------------------------------------------------------------------------------- on the page

# Styles for where the book's stylesheet is absent: JupyterLab and Colab align cells to the right. On a phone a
# row becomes a card whose cells name their own column; the roles keep it a table for those who hear it.
_STYLE = (
    "<style>.claims{border-collapse:collapse;min-width:36rem}"
    ".claims caption{text-align:left;font-weight:bold}"
    ".claims th,.claims td{text-align:left;vertical-align:top;padding:.3em .6em}"
    ".claims-scroll{overflow-x:auto}.verdict{white-space:nowrap;font-weight:bold}"
    "@media (max-width:40rem){.claims{min-width:0}.claims thead{position:absolute;clip-path:inset(50%)}"
    ".claims,.claims caption,.claims tbody,.claims tr,.claims th,.claims td{display:block;white-space:normal}"
    ".claims td::before{content:attr(data-column) ': ';font-size:.85em;opacity:.8}"
    ".claims tr{border-top:1px solid;padding:.4em 0}.claims th,.claims td{border:0;padding:.1em .6em}}</style>"
)


def _table(label: str, caption: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in header)
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{first}</th>'
        + "".join(
            f'<td role="cell" data-column="{name}">{cell}</td>' for name, cell in zip(header[1:], rest, strict=True)
        )
        + "</tr>\n"
        for first, *rest in rows
    )
    # A table too wide for its page scrolls inside its own box; tabindex lets the keyboard scroll it too.
    return (
        f'{_STYLE}<div class="claims-scroll" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="claims" role="table"><caption>{caption}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}</tbody></table></div>'
    )


def _small(markup: str) -> str:
    return f"<br><small>{markup}</small>"


def verdict_markup(verdict: str) -> str:
    """A verdict as it stands in lines and tables."""
    symbol = f'<span aria-hidden="true">{SYMBOLS[verdict]}</span>'  # never told by colour alone
    return f'<span class="verdict verdict-{verdict}">{symbol} {verdict}</span>'


def _measured(result: Result) -> str:
    # Digits that differ between processors stand in a span of their own, which the notebook tests blank.
    if result.claim.evidence == "measurement":
        width = result.high - result.low
        mean, low, high = (_number(end, width) for end in (result.mean, result.low, result.high))
        return f'<span class="measured">{mean} [{low}, {high}]</span>, {result.n} seeds'
    numbers = " to ".join(dict.fromkeys((_number(result.low), _number(result.high))))
    cases = f", {result.n} cases" if result.n > 1 else ""
    return f'<span class="measured">{numbers}</span>{cases}, {EVIDENCE[result.claim.evidence]}'


def _prose(text: str) -> str:
    # MathJax is told to skip outputs on the book's pages, except inside this class.
    return re.sub(r"\$([^$]+)\$", r'<span class="mathjax_process">\\(\1\\)</span>', html.escape(text))


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _number(value: float, width: float = 0.0) -> str:
    """``value`` to two digits of its interval's ``width``, six at most; very small or large ones to three digits."""
    size = abs(value)
    if 0 < width and 1e-4 <= max(width, size / 1000) and size < 1e7:
        digits = 1 - math.floor(math.log10(width))
        if size:
            digits = min(digits, 5 - math.floor(math.log10(size)))
        text = f"{value:z,.{max(0, digits)}f}"
    elif float(value).is_integer() and size < 1e15:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.6g}" if 1e-4 <= size < 1e7 else f"{value:.3g}"
    mantissa, _, exponent = text.partition("e")
    if exponent:
        power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
        mantissa = power if mantissa == "1" else f"{mantissa}×{power}"
    return mantissa.replace("-", "−")
