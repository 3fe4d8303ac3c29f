"""How pytest and nbval check the chapters: at the book's settings, verdicts compared, kernels measured."""

import copy
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

# Stored outputs are of the default settings; what the caller has set must not leak into kernels and tests.
for name in ("LESSONS_SCALE", "LESSONS_SEED", "LESSONS_ENGINE", "LESSONS_THREADS"):
    os.environ.pop(name, None)
os.environ["LESSONS_DEVICE"] = "cpu"

from lessons_lib.claims import RECORD_TYPE, RESULT_TYPE, reproduces, verdict_markup  # noqa: E402
from lessons_lib.notebooks import peak_memory_of  # noqa: E402  importing lessons_lib fixes the threads

KERNEL_LIMIT = 1.5e9  # bytes
SEEDS_LEFT_OUT = 0.1  # the share by which the number of networks may differ
SEEDS = re.compile(r'(<span class="measured">[^<]*</span>), \d+ seeds')
VERDICT = re.compile(verdict_markup("held").replace("held", r"\w+").replace("✓", "."))


def pytest_configure(config):
    # nbval opens the file from the working directory; the configuration means the root's.
    if config.option.nbval_sanitize_with:
        config.option.nbval_sanitize_with = str(config.rootpath / config.option.nbval_sanitize_with)


def pytest_collection_modifyitems(items):
    """Long files first: started late, one would leave a process waiting for the other."""
    items.sort(key=lambda item: (item.path.name != "test_site.py", item.path.suffix != ".ipynb"))


def pytest_itemcollected(item):
    """Compare claims by what was measured, and everything else as nbval does."""
    if isinstance(item, IPyNbCell):
        sanitize_text, compare = item.sanitize, item.compare_outputs
        item.sanitize = lambda value: without_digits(value) if isinstance(value, dict) else sanitize_text(value)
        item.compare_outputs = lambda fresh, stored, *skip: compare(with_agreed_verdicts(fresh, stored), stored, *skip)


def without_digits(record: dict) -> dict:
    """A record of claims, or of one, less what differs between processors; rules and verdicts stay."""
    measured = ("mean", "low", "high", "values")
    kept = {key: record[key] for key in record if key not in measured}
    if "claims" in record:
        kept["claims"] = [without_digits(row) for row in record["claims"]]
    return kept


def with_agreed_verdicts(fresh: list, stored: list) -> list:
    """``fresh`` outputs with the stored verdict on each claim of which the two say the same (claims.reproduces)."""
    fresh = copy.deepcopy(fresh)
    for new, old in zip(fresh, stored, strict=False):
        rows, known = (rows_of(output.get("data", {})) for output in (new, old))
        if not rows or [row["id"] for row in rows] != [row["id"] for row in known]:
            continue
        for row, other in zip(rows, known, strict=True):
            if reproduces(row, other):
                row["verdict"] = other["verdict"]
                # A network that never learns may be left out here and not there.
                if abs(row["n"] - other["n"]) <= SEEDS_LEFT_OUT * other["n"]:
                    row["n"] = other["n"]
        data = new["data"]
        marks = iter([row["verdict"] for row in rows])
        counts = iter([row["n"] for row in rows if row["evidence"] == "measurement"])
        data["text/plain"] = "\n".join(f"{row['id']} {row['verdict']}" for row in rows)
        data["text/html"] = VERDICT.sub(lambda _, marks=marks: verdict_markup(next(marks)), data["text/html"])
        data["text/html"] = SEEDS.sub(lambda m, counts=counts: f"{m[1]}, {next(counts)} seeds", data["text/html"])
    return fresh


def rows_of(data: dict) -> list[dict]:
    """The rows of a chapter's record, or the one of a claim's line."""
    return data[RECORD_TYPE]["claims"] if RECORD_TYPE in data else [data[RESULT_TYPE]] if RESULT_TYPE in data else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Note the kernel's peak memory after each cell, and fail the cell that passes the limit."""
    result = yield
    if isinstance(item, IPyNbCell):
        held = peak_memory_of(item.parent.kernel.km.provisioner.pid)
        item.user_properties.append(("kernel memory", held))
        if held > KERNEL_LIMIT:
            pytest.fail(f"The kernel has held {held / 1e9:.2f} GB; a chapter has {KERNEL_LIMIT / 1e9} GB.")
    return result


def pytest_terminal_summary(terminalreporter, config):
    """One line a chapter: what its kernel took, and how large its notebook and its page are."""
    seconds, memory = defaultdict(float), defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            path = getattr(report, "nodeid", "").partition("::")[0]
            if path.endswith(".ipynb"):
                seconds[path] += getattr(report, "duration", 0)
                memory[path] = max(memory[path], *[held for _, held in report.user_properties], 0)
    if not seconds:
        return
    terminalreporter.section("chapters")
    terminalreporter.line(f"{'seconds':>7} {'kernel GB':>9} {'notebook MB':>11} {'page MB':>7}")
    for path in sorted(seconds):
        page = config.rootpath / "_build/html" / Path(path).with_suffix(".html")
        size = f"{page.stat().st_size / 1e6:7.2f}" if page.is_file() else f"{'unbuilt':>7}"
        notebook = (config.rootpath / path).stat().st_size / 1e6
        terminalreporter.line(f"{seconds[path]:7.1f} {memory[path] / 1e9:9.2f} {notebook:11.2f} {size}  {path}")
