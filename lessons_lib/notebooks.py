"""Find the book's chapters, execute them, and write them so that a diff shows only what changed."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lessons_lib import OWN_THREADS, provenance

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
INJECTED = "injected-parameters"  # papermill's tag
LOCK = ".lock"  # in a run's folder, held while it runs


class BookError(RuntimeError):
    """The book, or one of its chapters, cannot do what was asked; the message names the way out."""


# ------------------------------------------------------------------------------------------------- chapters


@dataclass(frozen=True)
class Chapter:
    """One chapter: its ``name`` (the notebook's stem), the ``part`` whose folder it is in, its ``path``."""

    name: str
    part: str
    path: Path

    @property
    def title(self) -> str:
        """The notebook's title."""
        return title(json.loads(self.path.read_text(encoding="utf-8")))


def title(notebook: Mapping) -> str:
    """The first heading of a notebook, as nbformat or as plain JSON; empty if it has none."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return ""


def root() -> Path:
    """The book's folder: the nearest one above the working directory, else the one that lessons_lib is in.

    Raises BookError where there is neither, as in an environment that has lessons_lib alone.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parent.parent):
        if (folder / "_config.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise BookError("There is no book here: this command works inside a clone of the book's repository.")


def chapters(book: Path | None = None) -> list[Chapter]:
    """The book's chapters, in the order of its table of contents."""
    import yaml

    book = book or root()
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    files = [book / f"{entry}.ipynb" for entry in _entries(toc)]
    return [Chapter(path.stem, path.parent.name, path) for path in files if path.is_file()]


def _entries(node) -> list[str]:
    """Every ``file`` and ``root`` of a table of contents, in order."""
    if isinstance(node, list):
        return [entry for item in node for entry in _entries(item)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [entry for value in node.values() for entry in _entries(value)]


def find(name: str, book: Path | None = None) -> Chapter:
    """The chapter called ``name``. Raises BookError with the chapters there are, the likeliest one first."""
    known = {chapter.name: chapter for chapter in chapters(book)}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    listed = "\n".join(f"  {name}" for name in known) or "  (none yet)"
    raise BookError(f"There is no chapter {name!r}.{guess} The chapters in _toc.yml are:\n{listed}")


# -------------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Run:
    """An executed chapter: its notebook, where it was kept, and what it took (seconds, bytes)."""

    notebook: NotebookNode
    folder: Path
    seconds: float
    peak_memory: int
    record: dict | None


def run(
    chapter: Chapter,
    *,
    book: Path | None = None,
    parameters: Mapping[str, object] | None = None,
    **asked: str | int | None,
) -> Run:
    """Execute a chapter in a fresh kernel, into ``runs/CHAPTER-SCALE-seedN``, never over the book.

    ``asked``: scale, seed, device, precision, engine and data, as in ``lessons_lib.settings``; what is None comes
    from the LESSONS_* variables. ``parameters``, name to JSON value, replace what the chapter's cell tagged
    ``parameters`` assigns, and are part of the folder's name: ``...-seed0-n_train=1000``. The folder receives
    ``notebook.ipynb``, rewritten after every cell, and, once all have run, ``verdicts.json``. At paper scale the
    results of independent runs are kept in it until then, so that the same call goes on where one ended early
    (unless LESSONS_CACHE names another folder, which is left as it is). Raises SettingsError before the first
    cell for settings that cannot be met, and BookError for parameters that the chapter does not have or naming
    the cell that failed.
    """
    book = book or root()
    return _execute(chapter, book, _environment(book, asked), parameters or {})


def is_finished(
    chapter: Chapter,
    *,
    book: Path | None = None,
    parameters: Mapping[str, object] | None = None,
    **asked: str | int | None,
) -> bool:
    """Whether the folder of this run, asked for as in ``run``, holds its verdicts; SettingsError as there."""
    from lessons_lib.settings import Settings

    book = book or root()
    settings = Settings.from_environment(_environment(book, asked))
    return (_run_folder(chapter, book, settings, parameters or {}) / "verdicts.json").is_file()


def _environment(book: Path, asked: Mapping[str, str | int | None]) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update({f"LESSONS_{name.upper()}": str(value) for name, value in asked.items() if value is not None})
    # The kernel works in the chapter's folder: what is relative here would be elsewhere there.
    environment["LESSONS_DATA"] = str(Path(environment.get("LESSONS_DATA") or book / "data").expanduser().resolve())
    if environment.get("LESSONS_CACHE"):
        environment["LESSONS_CACHE"] = str(Path(environment["LESSONS_CACHE"]).expanduser().resolve())
    return environment


def _run_folder(chapter: Chapter, book: Path, settings, parameters: Mapping[str, object]) -> Path:
    return book / "runs" / f"{chapter.name}-{settings.scale}-seed{settings.seed}{_suffix(parameters)}"


def store(chapter: Chapter, *, book: Path | None = None) -> Run:
    """Execute a chapter as the book shows it, at lesson scale on a CPU, and write it back, normalized.

    The caller's LESSONS_* variables do not count. A chapter that fails stays as it was: raises BookError.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LESSONS_")}
    done = _execute(chapter, book or root(), {**environment, "LESSONS_DEVICE": "cpu"})
    write(done.notebook, chapter.path)
    return done


def inject(notebook: NotebookNode, parameters: Mapping[str, object], name: str):
    """Assign ``parameters`` anew in a cell of their own, right after the one tagged ``parameters``, in place.

    Raises BookError where there is no such cell, where it does not assign one of the names, and for numbers of seeds
    (``n_seeds``, ``n_seeds_conv``, ``n_image_seeds``) that are too few for an interval: a chapter would find that out
    only after its trainings.
    """
    from nbformat.v4 import new_code_cell

    from lessons_lib.claims import MIN_SEEDS

    tagged = [index for index, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise BookError(f"{name} has {len(tagged)} cells tagged 'parameters'; to set its parameters it takes one.")
    known = assigned(notebook.cells[tagged[0]].source)
    for parameter, value in parameters.items():
        if parameter not in known:
            close = difflib.get_close_matches(parameter, known, n=1)
            guess = f" Did you mean {close[0]}?" if close else ""
            raise BookError(f"{name} has no parameter {parameter!r}.{guess} It has: {', '.join(known)}.")
        if re.fullmatch(r"n_(.*_)?seeds(_.*)?", parameter) and isinstance(value, int) and value < MIN_SEEDS:
            raise BookError(f"{name} cannot run with {parameter}={value}: its claims need at least {MIN_SEEDS} seeds.")
    source = "\n".join(f"{parameter} = {value!r}" for parameter, value in parameters.items())
    notebook.cells.insert(tagged[0] + 1, new_code_cell(source, metadata={"tags": [INJECTED]}))


def assigned(source: str) -> list[str]:
    """The names that ``source`` assigns at its top level, in order."""
    targets = [target for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _execute(
    chapter: Chapter, book: Path, environment: Mapping[str, str], parameters: Mapping[str, object] | None = None
) -> Run:
    """Execute a chapter in the folder of its settings, which no other run may use meanwhile."""
    from filelock import FileLock, Timeout

    from lessons_lib.settings import Settings

    settings = Settings.from_environment(environment)
    _ = settings.device  # refused here rather than in the kernel
    notebook = read(chapter.path)
    _clear(notebook)
    if parameters:
        inject(notebook, parameters, chapter.name)
    folder = _run_folder(chapter, book, settings, parameters or {})
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            return _execute_in(folder, notebook, chapter, book, environment, settings, parameters or {})
    except Timeout:
        raise BookError(
            f"another run is at work in {folder}; wait for it, or ask for another seed or parameters"
        ) from None


def _execute_in(folder, notebook, chapter, book, environment, settings, parameters) -> Run:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from tqdm import tqdm

    device = str(settings.device)
    environment = {name: value for name, value in environment.items() if name not in OWN_THREADS}
    if (book / "lessons_lib").is_dir():  # what runs is this book's own library, so that the commit says what ran
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(book), environment.get("PYTHONPATH"))))
    state = provenance.commit(book) or {"commit": None, "clean": False}
    cache = _clear_folder(folder)
    if settings.scale == "paper":  # hours may be lost
        environment.setdefault("LESSONS_CACHE", str(cache))

    # Without kernel folders to look in, "python3" is this very interpreter, whatever else is registered.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(notebook, km=manager, coalesce_streams=True, shutdown_kernel="immediate")
    client.reset_execution_trackers()
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source]
    tagged = [cell for _, cell in code if "parameters" in cell.metadata.get("tags", [])]
    names = [name for cell in tagged for name in assigned(cell.source)]
    sizes = {}
    start = time.perf_counter()
    peak_memory = number = 0
    # What a dying kernel says last, it says on its own standard error.
    with open(folder / "kernel.log", "w") as log:
        with client.setup_kernel(env=environment, cwd=str(chapter.path.parent), stderr=log, cleanup_kc=True):
            for index, cell in tqdm(code, chapter.name, unit="cell", disable=None):
                # An injected cell does not count: the others keep the numbers that a reader knows.
                own = INJECTED not in cell.metadata.get("tags", [])
                number += own
                try:
                    client.execute_cell(cell, index, execution_count=number, store_history=own)
                except (CellExecutionError, DeadKernelError) as error:
                    said = "the kernel died" if isinstance(error, DeadKernelError) else f"{error.ename}: {error.evalue}"
                    raise BookError(
                        f"{chapter.name}, code cell {number} ({_first_line(cell.source)}): {said}\n"
                        f"What ran is kept in {folder / 'notebook.ipynb'}"
                    ) from None
                finally:
                    client.set_widgets_metadata()
                    _keep(notebook, folder / "notebook.ipynb")
                peak_memory = max(peak_memory, peak_memory_of(manager.provisioner.pid))
                if {"parameters", INJECTED} & set(cell.metadata.get("tags", [])):
                    sizes = _ask(client, _VALUES.format(names=names))
            seconds = time.perf_counter() - start
            told = _ask(client, provenance.TELL)
    write(notebook, folder / "notebook.ipynb")
    done = Run(notebook, folder, seconds, peak_memory, record(notebook))
    verdicts = {
        **(done.record or {"chapter": chapter.name, "scale": settings.scale, "seed": settings.seed, "claims": []}),
        "parameters": dict(parameters),
        "sizes": sizes,
        **state,
        **told,
        "device": device,
        "machine": provenance.machine(device),
        "precision": settings.precision,
        "engine": settings.engine,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak_memory / 1e6),
        "versions": provenance.versions(),
    }
    (folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(cache, ignore_errors=True)  # nothing is left to go on with
    return done


def _keep(notebook: NotebookNode, path: Path):
    """Write what has run so far; a disk that is full for a while does not end a run of hours."""
    try:
        write(notebook, path)
    except OSError as error:
        warnings.warn(f"what ran so far could not be kept in {path} ({error.strerror}); the run goes on", stacklevel=2)


# The parameters' values, as JSON; what JSON does not have is told as Python writes it.
_VALUES = "print(__import__('json').dumps({{name: globals()[name] for name in {names}}}, default=repr))"


def _ask(client: NotebookClient, code: str) -> dict:
    """The JSON that ``code`` prints in the kernel, from a cell that the notebook does not keep."""
    from nbformat.v4 import new_code_cell

    client.nb.cells.append(new_code_cell(code))
    try:
        cell = client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1, store_history=False)
    finally:
        client.nb.cells.pop()
    return json.loads("".join(output.text for output in cell.outputs if output.get("name") == "stdout"))


def _clear_folder(folder: Path) -> Path:
    """Remove what a former run left in its folder, but for the results it kept; where those are."""
    for path in folder.iterdir():
        if path.name not in (LOCK, "cache"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder / "cache"


def _suffix(parameters: Mapping[str, object]) -> str:
    """What tells a run with ``parameters`` apart, as the end of a folder's name."""
    told = "".join(f"-{name}={value}" for name, value in sorted(parameters.items()))
    plain = re.sub(r"[^\w.=+-]", "_", told)
    if plain == told and len(told) <= 60:
        return told
    # Too long for a folder's name, or with characters that it cannot have: a hash keeps two of them apart.
    return f"{plain[:50]}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


def peak_memory_of(pid: int) -> int:
    """The most memory, in bytes, that the process has held; where only Linux knows that, what it holds."""
    if sys.platform == "linux":
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    import psutil

    return psutil.Process(pid).memory_info().rss


def record(notebook: Mapping) -> dict | None:
    """The record of claims in a notebook's outputs: the last one, None if there is none."""
    from lessons_lib.claims import RECORD_TYPE

    records = [
        output["data"][RECORD_TYPE]
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if RECORD_TYPE in output.get("data", {})
    ]
    return records[-1] if records else None


# ----------------------------------------------------------------------------------------- reading, writing


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``. Raises BookError if it is none."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise BookError(f"{path} is not a notebook: {error}") from None


def write(notebook: NotebookNode, path: Path):
    """Write ``notebook``, normalized, in place of the file at ``path``: all of it or nothing."""
    import nbformat

    temporary = path.with_name(f".{path.name}.part")
    try:
        nbformat.write(normalize(notebook), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rewrite(path: Path) -> bool:
    """Normalize the notebook at ``path``; whether that changed it. Raises BookError for a file that is none."""
    notebook, before = read(path), path.read_bytes()
    write(notebook, path)
    return path.read_bytes() != before


def normalize(notebook: NotebookNode) -> NotebookNode:
    """A copy of ``notebook`` without anything that differs between two executions with equal results.

    Timestamps and the interpreter's version go; a cell's id becomes a hash of its text, so that moving or
    inserting one leaves the others alone; widget models are numbered in order of appearance.
    """
    import nbformat

    notebook = _number_widgets(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.language_info = {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    }
    seen = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        for key in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
    nbformat.validate(notebook)
    return notebook


def _clear(notebook: NotebookNode):
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def _number_widgets(notebook: NotebookNode) -> NotebookNode:
    """A copy whose widget models, which ipywidgets names at random, are numbered instead."""
    import nbformat

    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    name = re.compile("[0-9a-f]{32}")
    shown = name.findall(json.dumps([cell.get("outputs") for cell in notebook.cells]))
    order = dict.fromkeys([model for model in shown if model in state] + list(state))
    number = {model: f"{index:032x}" for index, model in enumerate(order)}
    text = name.sub(lambda match: number.get(match[0], match[0]), json.dumps(notebook))
    return nbformat.from_dict(json.loads(text))
