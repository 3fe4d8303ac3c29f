"""The book's commands: ``python -m lessons_lib COMMAND``; ``--help`` lists them."""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lessons_lib import address, notebooks
from lessons_lib.notebooks import BookError
from lessons_lib.settings import DEVICES, ENGINES, PRECISIONS, SCALES, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 1 after an error that a message explains."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (BookError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full or may not be written to
        print(f"error: {error.filename or 'the disk'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # a run that is stopped keeps what ran, as one that fails does
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lessons_lib", description="Work with the book's chapters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the chapters, part by part")
    command.set_defaults(command=_list)

    command = commands.add_parser(
        "run",
        help="execute chapters in fresh kernels, each into a folder under runs/",
        description="Execute a chapter into runs/CHAPTER-SCALE-seedN, followed by what --set changes: notebook.ipynb "
        "and verdicts.json. What is not given comes from the LESSONS_* variables. Several chapters or seeds are "
        "mapped over the engine, a chapter and seed a worker.",
    )
    command.add_argument("chapters", nargs="+", metavar="CHAPTER")
    command.add_argument("--scale", choices=SCALES, help="lesson: what the book shows; paper: the paper's own sizes")
    command.add_argument(
        "--seed",
        type=_seeds,
        default=[None],
        dest="seeds",
        help="the base seed of every draw, or several: 0-4 or 0,2,7",
    )
    command.add_argument("--device", choices=DEVICES)
    command.add_argument("--precision", choices=PRECISIONS, help="mixed: products in bfloat16, for GPUs")
    command.add_argument("--engine", help=f"how independent runs are mapped: {', '.join(ENGINES)} or tcp://host:port")
    command.add_argument("--data", metavar="FOLDER", help="where data sets lie, or are downloaded to")
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_assignment,
        dest="parameters",
        help="another value for one of the chapter's parameters, e.g. n_train=1000; may be repeated",
    )
    command.add_argument("--missing", action="store_true", help="leave out the runs whose verdicts are there already")
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "compare",
        help="a chapter's verdicts at several base seeds, and whether its intervals foresaw them",
        description="Compare a chapter's stored verdicts with those of its runs at other seeds, under runs/.",
    )
    command.add_argument("--keep", action="store_true", help="keep what those runs measured, for the chapter's page")
    command.add_argument("chapters", nargs="+", metavar="CHAPTER")
    command.set_defaults(command=_compare)

    command = commands.add_parser(
        "record",
        help="keep a finished run in records/, to be shown beside the chapter's own verdicts",
        description="Check the run in RUN_FOLDER, complete and unaltered, and write records/CHAPTER[...].json.",
    )
    command.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="where `run` said that it kept it")
    command.set_defaults(command=_record)

    command = commands.add_parser("store", help="re-execute chapters at lesson scale and write their outputs back")
    command.add_argument("chapters", nargs="*", metavar="CHAPTER", help="default: every chapter")
    command.set_defaults(command=_store)

    command = commands.add_parser("normalize", help="write notebooks as the book stores them, without running them")
    command.add_argument("files", nargs="+", type=Path, metavar="NOTEBOOK")
    command.set_defaults(command=_normalize)

    command = commands.add_parser("board", help="every claim of every chapter, its verdict, and those of recorded runs")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(command=_board)

    command = commands.add_parser(
        "new",
        help="add a paper: a chapter to start from",
        description="Write book/PART/NAME.ipynb, a chapter that runs and whose TODOs are yours to fill in, and add it "
        "to the course, the table of contents, the bibliography and the map. Nothing is fetched.",
    )
    command.add_argument("name", metavar="NAME", help="lower-case words joined by hyphens, e.g. sharp-minima")
    command.add_argument("--arxiv", metavar="ID", required=True, help="the paper's, e.g. 1703.04933")
    command.add_argument("--part", default="notes", help="a key in book/course.yml; default: %(default)s")
    command.add_argument("--title", help="the paper's; without it, one more TODO")
    command.set_defaults(command=_new)

    command = commands.add_parser("address", help="the repository's address; with a URL, set it everywhere")
    command.add_argument("url", nargs="?", metavar="URL", help="https://github.com/OWNER/NAME")
    command.set_defaults(command=_address)
    return parser


def _assignment(text: str) -> tuple[str, object]:
    """A name and a Python literal that JSON can keep, from NAME=VALUE."""
    name, separator, value = text.partition("=")
    try:
        if not (separator and name.isidentifier()):
            raise ValueError
        literal = ast.literal_eval(value)
        json.dumps(literal, allow_nan=False)  # what verdicts.json could not record is refused before it runs
        return name, literal
    except (ValueError, SyntaxError, TypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=VALUE with a Python literal for a value, as n_train=1000 is"
        ) from None


def _seeds(text: str) -> list[int]:
    """The seeds that ``3``, ``0-4`` or ``0,2,7`` names."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in text.split(",")]
    found = [seed for part in parts if part for seed in range(int(part[1]), int(part[2] or part[1]) + 1)]
    if not found or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed, as 3 is, nor several, as 0-4 or 0,2,7 are")
    return found


def _list(options: argparse.Namespace) -> int:
    part = None
    for chapter in notebooks.chapters():
        if chapter.part != part:
            part = chapter.part
            print(part)
        print(f"  {chapter.name:26} {chapter.title}")
    return 0


def _run(options: argparse.Namespace) -> int:
    chapters = [notebooks.find(name) for name in options.chapters]
    asked = {name: getattr(options, name) for name in ("scale", "device", "precision", "data")}
    asked["parameters"] = dict(options.parameters)
    jobs = [(chapter, {**asked, "seed": seed}) for chapter in chapters for seed in options.seeds]
    if options.missing:
        total = len(jobs)
        jobs = [job for job in jobs if not notebooks.is_finished(job[0], **job[1])]
        print(f"{total - len(jobs)} of {total} runs are there already")
    if not jobs:
        return 0
    if len(jobs) == 1:
        ((chapter, settings),) = jobs
        done = notebooks.run(chapter, engine=options.engine, **settings)
        print(_report(done, chapter.name))
        for claim in (done.record or {"claims": []})["claims"]:
            print(f"  {claim['id']:4} {claim['verdict']:10} {claim['statement']}")
        print(f"kept in {done.folder}")
        return 0
    from lessons_lib import engine

    try:
        named = [(chapter.name, settings) for chapter, settings in jobs]
        told = engine.map(_run_one, named, "chapters", over=options.engine, keep=False)
    except engine.EngineError as error:
        raise BookError(str(error)) from None
    print(*[line for line, _ in told], sep="\n")
    return max(failed for _, failed in told)


def _run_one(name: str, asked: dict) -> tuple[str, int]:
    """In a worker: run a chapter with no engine of its own; a line about it, and 1 if it failed."""
    try:
        done = notebooks.run(notebooks.find(name), engine="serial", **asked)
    except BookError as error:  # the others are still worth running
        return f"error: {error}", 1
    return f"{_report(done, done.folder.name)}; kept in {done.folder}", 0


def _compare(options: argparse.Namespace) -> int:
    from lessons_lib import base_seeds, other_seeds

    for chapter in map(notebooks.find, options.chapters):
        print(base_seeds.text(chapter))
        if options.keep:
            print(f"kept in {other_seeds.keep(chapter)}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from lessons_lib import records

    print(f"kept in {records.keep(options.folder)}")
    return 0


def _store(options: argparse.Namespace) -> int:
    names = options.chapters or [chapter.name for chapter in notebooks.chapters()]
    failed = 0
    for chapter in [notebooks.find(name) for name in names]:
        try:
            done = notebooks.store(chapter)
            print(_report(done, chapter.name), f"{chapter.path.stat().st_size / 1e6:5.2f} MB", flush=True)
        except BookError as error:  # the other chapters are still worth storing
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


def _normalize(options: argparse.Namespace) -> int:
    for path in options.files:
        if notebooks.rewrite(path):
            print(f"changed {path}")
    return 0


def _report(done: notebooks.Run, name: str) -> str:
    verdicts = Counter(claim["verdict"] for claim in (done.record or {"claims": []})["claims"])
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no claims"
    return f"{name}: {counts}; {done.seconds:.1f} s, kernel {done.peak_memory / 1e6:.0f} MB"


def _board(options: argparse.Namespace) -> int:
    from lessons_lib import board

    print(json.dumps(board.as_json(), indent=1, ensure_ascii=False) if options.json else board.text())
    return 0


def _new(options: argparse.Namespace) -> int:
    from lessons_lib import new_chapter

    path = new_chapter.add(options.name, options.arxiv, options.part, options.title)
    chapter = path.relative_to(notebooks.root())
    print(f"1. Replace every TODO: in {chapter}, and in book/course.yml, references.bib and map.yml.")
    print(f"2. Run it and keep its outputs: python -m lessons_lib store {options.name}")
    print(f"3. See what rules it breaks: python -m pytest --nbval -k {options.name}")
    return 0


def _address(options: argparse.Namespace) -> int:
    root = notebooks.root()
    if options.url:
        for path in address.set_address(root, options.url):
            print(f"changed {path.relative_to(root)}")
    print(address.address(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
