"""The command line, in one process: exit statuses, messages, and what each command leaves behind."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
import toys
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lessons_lib import address, notebooks
from lessons_lib.__main__ import main

NEW = "https://github.com/somebody/else.where"


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(toys.make_book(tmp_path))
    return tmp_path


def test_list_shows_parts_and_titles_and_loads_nothing_heavy(book):
    code = (
        "import sys; from lessons_lib.__main__ import main; main(['list']);"
        "heavy = {'torch', 'scipy', 'sklearn', 'matplotlib', 'nbformat', 'xarray'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["w1-toys", f"  {'toy':26} A toy chapter"]


def test_run_reports_and_board_reads_what_store_wrote(book, capsys):
    assert main(["run", "toy", "--seed", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("toy: 2 held; ")
    assert "C1   held       It is large." in shown.out
    assert f"kept in {book / 'runs' / 'toy-lesson-seed2'}" in shown.out
    assert main(["board", "--json"]) == 0
    assert "It is large." not in capsys.readouterr().out  # a run is not the book
    assert main(["store", "toy"]) == 0
    assert capsys.readouterr().out.endswith(" MB\n")
    assert main(["board", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown) and "It is large." in shown
    assert main(["board"]) == 0
    assert "C1" in capsys.readouterr().out
    assert main(["compare", "toy"]) == 0
    assert capsys.readouterr().out.startswith("toy at seeds 0, 2\n  C1    ✓ ✓   F   0.00  p 1.000\n  C2    ✓ ✓\n")
    (book / "runs" / "toy-lesson-seed2" / "verdicts.json").unlink()
    assert main(["compare", "toy"]) == 1
    assert "`python -m lessons_lib run toy --seed 1-4` runs it at other seeds" in capsys.readouterr().err


def test_several_runs_are_mapped_and_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    bad = new_notebook(cells=[new_markdown_cell("# Bad"), new_code_cell("1 / 0")])
    monkeypatch.chdir(toys.make_book(tmp_path, toy=toys.notebook(), bad=bad))
    assert main(["run", "bad", "toy", "--seed", "1,3-4", "--engine", "serial"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("error: bad, code cell 1 (1 / 0): ZeroDivisionError")]
    done = [line for line in lines if "2 held" in line]
    assert [line.split(":")[0] for line in done] == [f"toy-lesson-seed{seed}" for seed in (1, 3, 4)]
    assert len(failed) == 3
    (tmp_path / "runs" / "toy-lesson-seed4" / "verdicts.json").unlink()
    assert main(["run", "toy", "--seed", "1,3-4", "--missing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 3 runs are there already"
    assert lines[-1].endswith("toy-lesson-seed4")
    assert main(["run", "toy", "--seed", "1,3-4", "--missing"]) == 0
    assert capsys.readouterr().out == "3 of 3 runs are there already\n"
    for wrong in ("x", "3-1", "1,", "-1"):
        with pytest.raises(SystemExit):
            main(["run", "toy", f"--seed={wrong}"])
        assert "is not a seed" in capsys.readouterr().err


def test_an_engine_that_is_not_there_is_one_line(book, capsys, monkeypatch):
    monkeypatch.setattr("lessons_lib.cluster.PATIENCE", 1)
    assert main(["run", "toy", "--seed", "0-1", "--engine", "tcp://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.startswith("error: no Dask scheduler answers at tcp://127.0.0.1:9")
    assert main(["run", "toy", "--engine", "cloud"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: LESSONS_ENGINE is 'cloud'; it must be one of: serial, processes, or"
    )


def test_unknown_chapter_fails_with_the_list(book, capsys):
    for command in (["run", "tory"], ["store", "tory"]):
        assert main(command) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: There is no chapter 'tory'. Did you mean toy?")
        assert shown.err.endswith("\n  toy\n")


def test_store_goes_on_after_a_chapter_that_fails(tmp_path, monkeypatch, capsys):
    bad, good = (new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(code)]) for code in ("1 / 0", "1"))
    monkeypatch.chdir(toys.make_book(tmp_path, bad=bad, good=good))
    assert main(["store"]) == 1
    shown = capsys.readouterr()
    assert "error: bad, code cell 1 (1 / 0): ZeroDivisionError" in shown.err
    assert shown.out.startswith("good: no claims; ")
    assert nbformat.read(notebooks.find("good").path, as_version=4).cells[1].execution_count == 1


def test_a_disk_that_cannot_be_written_to_is_one_line(book, capsys):
    (book / "runs").write_text("a file where a folder is wanted")
    assert main(["run", "toy"]) == 1
    assert re.fullmatch(r"error: \S*runs\S*: (File exists|Not a directory)\n", capsys.readouterr().err)


def test_settings_that_cannot_be_met_are_one_line(book, capsys, monkeypatch):
    assert main(["run", "toy", "--seed", str(2**32)]) == 1
    assert capsys.readouterr().err.startswith("error: LESSONS_SEED is '4294967296'; it must be an integer from 0")
    with pytest.raises(SystemExit):
        main(["run", "toy", "--scale", "huge"])
    assert "(choose from" in capsys.readouterr().err


def test_address_is_set_in_every_place_and_nowhere_else(book, capsys):
    owner, name = toys.ADDRESS.split("/")[-2:]
    readme = (
        f"{toys.ADDRESS} {toys.ADDRESS}/issues https://colab.research.google.com/github/{owner}/{name}/blob/main/x "
        f"https://{owner}.github.io/{name}/ "
    )
    others = f"{toys.ADDRESS}-of-others https://github.com/{owner}/other"
    (book / "README.md").write_text(readme + others)
    main(["store", "toy"])
    capsys.readouterr()
    assert main(["address"]) == 0
    assert capsys.readouterr().out == f"{toys.ADDRESS}\n"
    assert main(["address", NEW]) == 0
    changed = {line.removeprefix("changed ") for line in capsys.readouterr().out.splitlines()[:-1]}
    assert changed == {"README.md", "_config.yml", "book/w1-toys/toy.ipynb"}
    assert address.address(book) == NEW
    assert (book / "README.md").read_text() == (
        f"{NEW} {NEW}/issues https://colab.research.google.com/github/somebody/else.where/blob/main/x "
        f"https://somebody.github.io/else.where/ {others}"
    )
    notebook = notebooks.read(notebooks.find("toy").path)
    assert notebook.cells[2].source == address.setup_cell(NEW)
    assert notebooks.normalize(notebook) == notebook


@pytest.mark.parametrize("url", ["github.com/a/b", "https://github.com/a", "https://example.org/a/b", NEW + ".git"])
def test_what_is_no_repository_is_refused(book, url):
    before = (book / "_config.yml").read_text()
    assert main(["address", url]) == 1
    assert (book / "_config.yml").read_text() == before


def test_places_that_name_the_repository_agree():
    """Colab links and set-up cells of this very book name the repository that ``_config.yml`` names."""
    link = re.compile(r"(?:git(?: clone |\+)https://github\.com|research\.google\.com/github)/([\w.-]+/[\w.-]+)")
    named = {
        (path.name, match)
        for path in address.places(toys.ROOT)
        for match in link.findall(path.read_text(encoding="utf-8"))
    }
    own = address.address(toys.ROOT).removeprefix("https://github.com/")
    assert {repository for _, repository in named} == {own}, named
    assert ("README.md", own) in named


@pytest.mark.parametrize(
    "wrong", ["n_train", "n_train=", "2x=1", "n_train=many", "n_train={1, 2}", "n_train=1e999", "n_train={[]: 1}"]
)
def test_parameters_are_literals(book, capsys, wrong):
    with pytest.raises(SystemExit):
        main(["run", "toy", "--set", wrong])
    assert f"{wrong!r} is not NAME=VALUE with a Python literal" in capsys.readouterr().err


def test_parameters_reach_the_chapter(book, capsys):
    assert main(["run", "toy", "--set", "widht=3"]) == 1
    assert "toy has no parameter 'widht'. Did you mean width? It has: width." in capsys.readouterr().err
    assert main(["run", "toy", "--set", "width=3"]) == 0
    assert capsys.readouterr().out.endswith("toy-lesson-seed0-width=3\n")


def test_normalize_changes_a_notebook_once_and_refuses_what_is_none(book, capsys):
    path = book / "book" / "w1-toys" / "toy.ipynb"
    assert main(["normalize", str(path)]) == 0 and "changed" in capsys.readouterr().out
    assert main(["normalize", str(path)]) == 0 and capsys.readouterr().out == ""
    (book / "torn.ipynb").write_text('{"cells": [')
    assert main(["normalize", str(book / "torn.ipynb")]) == 1
    assert "torn.ipynb" in capsys.readouterr().err
