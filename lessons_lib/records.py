"""Recorded runs: a chapter executed at the paper's scale, or as near to it as a machine allowed, and kept.

``python -m lessons_lib record RUN_FOLDER`` checks what ``run`` left in a folder and writes ``records/NAME.json``:
the claims with their values, and where they come from. Nothing in a record is taken on trust when it is read
again: it is JSON, each verdict follows from the values beside it, and the rule is the one that the chapter has now.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lessons_lib import notebooks
from lessons_lib.claims import Result, decide
from lessons_lib.notebooks import BookError

FOLDER = "records"
JPEG_COPY = "CIFAR-10 (JPEG copy)"  # as lessons_lib.image_files calls it, which takes torch to import

# What a record has, in its order, and what each part is.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "chapter": str,
    "scale": str,
    "seed": int,
    "parameters": dict,
    "sizes": dict,
    "data": list,
    "commit": str,
    "clean": bool,
    "device": str,
    "machine": str,
    "threads": int,
    "engine": str,
    "seconds": (int, float),
    "peak_memory_mb": int,
    "versions": dict,
    "claims": list,
}
# What a record may have; what is as it mostly is, is left out.
MOSTLY = {"precision": "full", "reused": 0}
DATA = {"name": str, "n_train": int, "n_test": int, "times": int, "sha256": str}
RULE = ("evidence", "rule", "log", "null")  # what decides a claim, beside its values

_PLACE = re.compile(
    r"(?<![\w.)\]}-])(?:~|/(?:home|root|work|Users|tmp|var|mnt|media|opt|srv|private|content))/|[A-Z]:\\"
)


@dataclass(frozen=True)
class Record:
    """One recorded run: its ``name``, the file's stem; ``run``, what is in it; its ``results``, by claim.

    Where ``problem`` says what is wrong with the file, ``run`` and ``results`` are empty.
    """

    name: str
    run: Mapping
    results: Mapping[str, Result]
    problem: str = ""

    @property
    def command(self) -> str:
        """What repeats the run."""
        told = [f"python -m lessons_lib run {self.run['chapter']} --scale {self.run['scale']}"]
        told += [f"--seed {self.run['seed']}"] * (self.run["seed"] != 0)
        told += ["--precision mixed"] * (self.run.get("precision") == "mixed")
        for name, value in self.run["parameters"].items():
            said = f"{name}={value!r}"
            quote = "" if re.fullmatch(r"[\w.=+-]+", said) else '"' if "'" in said else "'"
            told.append(f"--set {quote}{said}{quote}")
        return " ".join(told)

    @property
    def unset(self) -> dict[str, object]:
        """The sizes that the run left as they are at its scale."""
        return {name: value for name, value in self.run["sizes"].items() if name not in self.run["parameters"]}

    @property
    def data(self) -> str:
        """The data sets that were read, in words; empty where all was made on the spot."""
        sizes: dict[str, list[str]] = {}
        for row in self.run["data"]:
            sizes.setdefault(row["name"], []).append(f"{row['n_train']:,} + {row['n_test']:,}")
        told = "; ".join(f"{name}, {' and '.join(each)}" for name, each in sizes.items())
        return f"{told} (training + test)" if told else ""

    @property
    def names(self) -> list[str]:
        """The data sets' names, each once."""
        return list(dict.fromkeys(row["name"] for row in self.run["data"]))

    @property
    def facts(self) -> list[str]:
        """Where the numbers come from: data, hardware, time, commit; a sentence each."""
        run = self.run
        threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
        minutes = run["seconds"] / 60
        time = f"{run['seconds']:.0f} seconds" if minutes < 2 else f"{minutes:.0f} minutes"
        facts = [f"Data: {self.data}." if self.data else "Data made on the spot."]
        if JPEG_COPY in self.names:
            facts.append("The JPEG copy holds CIFAR-10's images after lossy compression, so not bit for bit.")
        facts.append(f"{run['machine']}, {threads}: {time}, {run['peak_memory_mb'] / 1000:.1f} GB of memory.")
        if run.get("precision", "full") != "full":
            facts.append("Mixed precision: products in bfloat16 while training.")
        if run.get("reused"):
            facts.append(
                f"The run was interrupted: {run['reused']} results were there already, and are not in its time."
            )
        state = "" if run["clean"] else ", with changes that were not committed"
        facts.append(f"Seed {run['seed']}, commit {run['commit'][:10]}{state}.")
        return facts


def check(run: object, chapter_rows: Sequence[Mapping]) -> dict[str, Result]:
    """The results of a run by claim, each decided again; ``chapter_rows`` are those of the chapter's own record.

    Raises BookError with the first thing that is wrong: a part that is missing or of another kind, a claim that the
    chapter does not have, or decides by another rule, a verdict or mean at odds with its values, a path.
    """
    has("it", run, FIELDS)
    for row in run["data"]:
        has("a row of its data", row, DATA)
    if run["scale"] == "lesson" and not run["parameters"]:
        raise BookError("it is at lesson scale with nothing set: the chapter's stored verdicts are that run")
    if not re.fullmatch("[0-9a-f]{40}", run["commit"]):
        raise BookError(f"{run['commit']!r} is no git commit")
    known, results = {row["id"]: row for row in chapter_rows}, {}
    for row in run["claims"]:
        has("a claim", row, {"id": str, "values": list, "verdict": str, "note": str})
        name = row["id"]
        if name not in known:
            raise BookError(f"{run['chapter']} has no claim {name}")
        if name in results:
            raise BookError(f"it has {name} twice")
        if any(row.get(key) != known[name][key] for key in RULE):
            raise BookError(f"it decides {name} by another rule than the chapter; run it again")
        try:
            results[name] = decided = decide(row)
            again = [decided.verdict, decided.n, *_ends(decided)]
            stored = [row["verdict"], row["n"], row["mean"], row["low"], row["high"]]
            same = again[:2] == stored[:2] and all(map(math.isclose, again[2:], stored[2:]))
        except (ValueError, LookupError, TypeError) as error:
            raise BookError(f"{name} cannot be decided from its values ({error})") from None
        if not same:
            raise BookError(f"{name} is stored as {stored}, its values say {again}")
    for text in _texts(run):
        if found := _PLACE.search(text):
            raise BookError(f"it holds a path of one machine: {text[found.start() : found.end() + 30]!r}")
    return results


def has(what: str, given: object, fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise BookError, with ``what`` it is, unless ``given`` has these fields, each of its kind."""
    if not isinstance(given, dict):
        raise BookError(f"{what} is {type(given).__name__}, not an object")
    for name, kind in fields.items():
        if name not in given:
            raise BookError(f"{what} lacks {name!r}")
        if not isinstance(given[name], kind) or (isinstance(given[name], bool) and kind is not bool):
            raise BookError(f"{name!r} of {what} is {given[name]!r}")


def _ends(result: Result) -> tuple[float, float, float]:
    return result.mean, result.low, result.high


def _texts(part: object) -> Iterable[str]:
    """Every string in a record, keys too."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield key
            yield from _texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _texts(value)


# ----------------------------------------------------------------------------------------- reading, writing


def files(book: Path) -> list[Path]:
    """Every file that is kept of runs, those at other base seeds (``other_seeds``) too."""
    return sorted((book / FOLDER).rglob("*.json"))


def of(chapter: str, chapter_rows: Sequence[Mapping], book: Path) -> tuple[Record, ...]:
    """The records of one chapter, in the order of their names; what is wrong with one goes into its ``problem``."""
    found = []
    for path in sorted((book / FOLDER).glob("*.json")):
        try:
            run = parse(path)
            if not isinstance(run, dict) or "chapter" not in run:
                raise BookError("it lacks 'chapter'")
        except BookError as error:  # whose it is, only its name can tell
            if path.stem.startswith(chapter):
                found.append(_broken(path, error))
            continue
        if run["chapter"] == chapter:
            try:
                found.append(Record(path.stem, run, check(run, chapter_rows)))
            except BookError as error:
                found.append(_broken(path, error))
    return tuple(found)


def _broken(path: Path, error: BookError) -> Record:
    return Record(path.stem, {}, {}, f"{FOLDER}/{path.name} is no valid record: {error}.")


def parse(path: Path) -> object:
    """What a file of JSON holds. Raises BookError for any other, and for NaN, which JSON does not have."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:  # a pickle is no text, or no JSON
        raise BookError(f"{path.name} is not JSON ({error})") from None


def keep(folder: Path, book: Path | None = None) -> Path:
    """Check the finished run in ``folder`` and write it to ``records/``; returns the file.

    What chapters remark beside a claim is about their own scale and is left out. Raises BookError for a folder
    without a finished run, and for a run that was altered since: by what ``check`` says, or by a notebook that did
    not run to its end or whose claims are not those of verdicts.json.
    """
    book = book or notebooks.root()
    try:
        run = _finished(folder)
        chapter = notebooks.find(run["chapter"], book)
        stored = notebooks.record(json.loads(chapter.path.read_text(encoding="utf-8")))
        if stored is None:
            raise BookError(f"{chapter.name} has no stored verdicts to stand beside")
        results = check(run, stored["claims"])
        if missing := [row["id"] for row in stored["claims"] if row["id"] not in results]:
            raise BookError(f"it lacks the chapter's claims {', '.join(missing)}")
    except BookError as error:
        raise BookError(f"{folder} cannot be recorded: {error}.") from None
    kept = {name: run[name] for name in FIELDS}
    kept |= {name: run[name] for name, value in MOSTLY.items() if run.get(name, value) != value}
    kept["claims"] = [row | {"note": ""} for row in run["claims"]]
    path = book / FOLDER / f"{name_of(run)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump(kept), encoding="utf-8")
    return path


def _finished(folder: Path) -> dict:
    """What verdicts.json holds, once it agrees with the notebook beside it."""
    for name in ("verdicts.json", "notebook.ipynb"):
        if not (folder / name).is_file():
            raise BookError(f"it has no {name}, which a finished run leaves")
    run, notebook = parse(folder / "verdicts.json"), notebooks.read(folder / "notebook.ipynb")
    has("verdicts.json", run, FIELDS)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if any(cell.execution_count is None for cell in cells):
        raise BookError("its notebook did not run to the end")
    if any(output.output_type == "error" for cell in cells for output in cell.outputs):
        raise BookError("a cell of its notebook ended in an error")
    if (notebooks.record(notebook) or {}).get("claims") != run["claims"]:
        raise BookError("the claims in verdicts.json are not those in its notebook")
    return run


def name_of(run: Mapping) -> str:
    """The stem of a run's record: the chapter, then what differs from seed 0 and the paper's sizes.

    Parameters that do not make a short and plain name are told by a hash.
    """
    parts = [run["chapter"]]
    parts += [] if run["scale"] == "paper" else [run["scale"]]
    parts += [f"seed{run['seed']}"] if run["seed"] else []
    if run["parameters"]:
        told = "-".join(f"{name}={value}" for name, value in sorted(run["parameters"].items()))
        plain = len(told) <= 40 and re.fullmatch(r"[\w.=+-]+", told)
        parts.append(told if plain else hashlib.sha256(told.encode()).hexdigest()[:8])
    return "-".join(parts)


def dump(kept: dict) -> str:
    """JSON with a list of numbers on one line."""
    text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"
