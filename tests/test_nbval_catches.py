"""nbval, as this project configures it, on chapters that were tampered with.

One book holds the same chapter several times over: as stored, with other digits, with a verdict altered by
hand in each place where one stands, and with code that gives another verdict. One nbval run judges all.
"""

import copy
import os
import re
import subprocess
import sys

import pytest
import toys

from lessons_lib import notebooks
from lessons_lib.claims import RECORD_TYPE

VALUES = "values = [2.0, 2.1, 2.2, 2.1, 2.0]"
CLOSE = "values = [0.9, 1.1, 1.0, 1.2, 1.1] * 2"  # undecided: [0.98, 1.14] about 1


def outputs(notebook, place):
    """The data of each output that has ``place``, a mime type."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if place in output.get("data", {}):
                yield output["data"]


def replace_text(notebook, place, old, new):
    assert any(old in data[place] for data in outputs(notebook, place))
    for data in outputs(notebook, place):
        data[place] = data[place].replace(old, new)


def replace_code(notebook, old, new):
    cells = [cell for cell in notebook.cells if old in cell.source]
    assert cells
    for cell in cells:
        cell.source = cell.source.replace(old, new)


def altered_text(notebook):
    replace_text(notebook, "text/plain", "C1 held", "C1 failed")


def altered_html(notebook):
    replace_text(notebook, "text/html", "✓</span> held", "✗</span> failed")


def altered_record(notebook):
    for data in outputs(notebook, RECORD_TYPE):
        data[RECORD_TYPE]["claims"][0]["verdict"] = "undecided"


def altered_rule(notebook):
    for data in outputs(notebook, RECORD_TYPE):
        data[RECORD_TYPE]["claims"][0]["rule"] = ["above", 0.5]


def code_that_fails_the_claim(notebook):
    replace_code(notebook, VALUES, "values = [0.1, 0.2, 0.1, 0.2, 0.1]")


def code_that_leaves_it_undecided(notebook):
    replace_code(notebook, VALUES, "values = [0.5, 1.5, 1.0, 1.4, 0.9]")


def other_digits(notebook):
    """What another processor would have stored: the same verdicts from slightly other numbers."""
    replace_code(notebook, VALUES, "values = [2.0, 2.1, 2.2, 2.1, 2.03]")


def other_stored_digits(notebook):
    replace_text(notebook, "text/html", "2.08", "2.09")
    for data in outputs(notebook, RECORD_TYPE):
        row = data[RECORD_TYPE]["claims"][0]
        row.update(mean=row["mean"] + 1e-3, low=row["low"] - 1e-3, values=[2.1] * 5)


def other_draws_close_to_the_edge(notebook):
    """What another processor may have stored: undecided by a hair, where here it holds by one."""
    replace_code(notebook, CLOSE, "values = [1.0, 1.2, 1.1, 1.3, 1.2] * 2")


def other_draws_too_far_away(notebook):
    """Undecided there, held here, but more than two draws differ."""
    replace_code(notebook, CLOSE, "values = [1.6, 1.8, 1.7, 1.9, 1.8] * 2")


def other_draws_without_one(notebook):
    """A network that never learned, and was left out, where here all did."""
    replace_code(notebook, CLOSE, CLOSE.replace("= [", "= ([") + ")[:9]")


def other_draws_without_two(notebook):
    replace_code(notebook, CLOSE, CLOSE.replace("= [", "= ([") + ")[:8]")


PASS = [other_digits, other_stored_digits, other_draws_close_to_the_edge, other_draws_without_one]
FAIL = [
    altered_text,
    altered_html,
    altered_record,
    altered_rule,
    code_that_fails_the_claim,
    code_that_leaves_it_undecided,
    other_draws_too_far_away,
    other_draws_without_two,
]


def nbval(book, *options):
    """What ``pytest --nbval`` prints in ``book``, whatever the caller has set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-rA", "--color=no", *options],
        cwd=book,
        env={**environment, "LESSONS_SEED": "5"},
        capture_output=True,
        text=True,
    ).stdout


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Chapter name -> the cells that nbval failed, of the chapters it ran."""
    book = toys.make_book(tmp_path_factory.mktemp("book"), toy=toys.notebook(toys.CLAIMS))
    stored = notebooks.store(notebooks.find("toy", book), book=book).notebook
    replace_code(close := copy.deepcopy(stored), VALUES, CLOSE)
    notebooks.write(close, book / "book" / "w1-toys" / "toy.ipynb")
    close = notebooks.store(notebooks.find("toy", book), book=book).notebook
    notebooks.write(stored, book / "book" / "w1-toys" / "toy.ipynb")
    for tamper in PASS + FAIL:
        notebook = copy.deepcopy(close if "draws" in tamper.__name__ else stored)
        tamper(notebook)
        notebooks.write(notebook, book / "book" / "w1-toys" / f"{tamper.__name__}.ipynb")
    printed = nbval(book)
    results = re.findall(r"^(PASSED|FAILED|ERROR) .*/(\w+)\.ipynb::Cell (\d+)", printed, re.MULTILINE)
    assert {name for _, name, _ in results} == {"toy"} | {tamper.__name__ for tamper in PASS + FAIL}, printed
    assert re.search(r"\d+\.\d +0\.\d\d +0\.\d\d unbuilt +book/w1-toys/toy.ipynb", printed), printed
    found = {name: [] for _, name, _ in results}
    for outcome, name, cell in results:
        if outcome != "PASSED":
            found[name].append(int(cell))
    return found


def test_the_chapter_as_stored_passes(failed):
    assert failed["toy"] == []


@pytest.mark.parametrize("tamper", PASS, ids=lambda tamper: tamper.__name__)
def test_digits_alone_pass(failed, tamper):
    assert failed[tamper.__name__] == []


@pytest.mark.parametrize("tamper", FAIL, ids=lambda tamper: tamper.__name__)
def test_another_verdict_or_rule_fails(failed, tamper):
    assert failed[tamper.__name__]


def test_a_kernel_that_holds_too_much_fails(tmp_path):
    book = toys.make_book(tmp_path, toy=toys.notebook(["# Large", ("code", "x = bytearray(400_000_000)", {})]))
    conftest = book / "conftest.py"
    conftest.write_text(conftest.read_text().replace("KERNEL_LIMIT = 1.5e9", "KERNEL_LIMIT = 0.4e9"))
    printed = nbval(book, "-n", "0")
    assert re.search(r"FAILED .*Cell 0", printed), printed
    assert re.search(r"The kernel has held 0\.\d\d GB; a chapter has 0\.4 GB", printed), printed
