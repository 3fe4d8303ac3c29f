"""How pytest and nbval check the chapters: at the book's settings, verdicts compared, kernels measured."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

# Stored outputs are of the default settings; what the caller has set must not leak into kernels and tests.
for name in ("LESSONS_SCALE", "LESSONS_SEED", "LESSONS_ENGINE", "LESSONS_THREADS"):
    os.environ.pop(name, None)
os.environ["LESSONS_DEVICE"] = "cpu"

from lessons_lib.notebooks import peak_memory_of  # noqa: E402  importing lessons_lib fixes the threads

KERNEL_LIMIT = 1.5e9  # bytes


def pytest_configure(config):
    # nbval opens the file from the working directory; the configuration means the root's.
    if config.option.nbval_sanitize_with:
        config.option.nbval_sanitize_with = str(config.rootpath / config.option.nbval_sanitize_with)


def pytest_itemcollected(item):
    """Compare a record of claims without its measured digits: nbval's own patterns reach text alone."""
    if isinstance(item, IPyNbCell):
        sanitize_text = item.sanitize
        item.sanitize = lambda value: without_digits(value) if isinstance(value, dict) else sanitize_text(value)


def without_digits(record: dict) -> dict:
    """A record of claims less what differs between processors; rules and verdicts stay."""
    measured = ("mean", "low", "high", "values")
    claims = [{key: row[key] for key in row if key not in measured} for row in record.get("claims", ())]
    return {**record, "claims": claims}


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
