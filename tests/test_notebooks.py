"""Chapters found, executed and written: a run leaves the book alone, equal results give equal bytes."""

import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
import toys
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lessons_lib import notebooks
from lessons_lib.notebooks import BookError
from lessons_lib.settings import SettingsError


def small(*sources):
    return new_notebook(cells=[new_markdown_cell("# Small"), *map(new_code_cell, sources)])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A book whose one chapter has been stored."""
    book = toys.make_book(tmp_path_factory.mktemp("book"))
    notebooks.store(notebooks.find("toy", book), book=book)
    return book


def test_chapters_come_in_the_order_of_the_table_of_contents(tmp_path):
    book = toys.make_book(tmp_path, zebra=small(), ant=small())
    assert [(chapter.name, chapter.part) for chapter in notebooks.chapters(book)] == [
        ("zebra", "w1-toys"),
        ("ant", "w1-toys"),
    ]
    assert notebooks.find("ant", book).title == "Small"


def test_unknown_chapter_names_the_known_ones(tmp_path):
    book = toys.make_book(tmp_path, zebra=small(), ant=small())
    with pytest.raises(BookError, match=r"(?s)'zebbra'. Did you mean zebra\?.*\n  zebra\n  ant"):
        notebooks.find("zebbra", book)


def test_the_book_is_found_from_inside_it(tmp_path, monkeypatch):
    book = toys.make_book(tmp_path)
    monkeypatch.chdir(book / "book" / "w1-toys")
    assert notebooks.root() == book
    monkeypatch.chdir("/")
    monkeypatch.setattr(notebooks, "__file__", "/nowhere/lessons_lib/notebooks.py")
    with pytest.raises(BookError, match="inside a clone"):
        notebooks.root()


def test_storing_twice_gives_the_same_bytes_whatever_the_caller_has_set(stored, monkeypatch):
    path = notebooks.find("toy", stored).path
    before = path.read_bytes()
    monkeypatch.setenv("LESSONS_SEED", "7")
    monkeypatch.setenv("LESSONS_SCALE", "paper")
    done = notebooks.store(notebooks.find("toy", stored), book=stored)
    assert path.read_bytes() == before
    assert (done.record["scale"], done.record["seed"]) == ("lesson", 0)
    assert 5e7 < done.peak_memory < 1e9
    assert 0.2 < done.seconds < 120


def test_stored_chapter_holds_its_widgets_and_no_trace_of_when_it_ran(stored):
    path = notebooks.find("toy", stored).path
    notebook = nbformat.read(path, as_version=4)
    state = notebook.metadata.widgets[notebooks.WIDGET_STATE]["state"]
    models = {model["model_name"] for model in state.values()}
    assert {"StackModel", "IntSliderModel", "LinkModel"} <= models
    named = set(re.findall(r'(?:IPY_MODEL_|"model_id": ")([0-9a-f]{32})', path.read_text()))
    assert named and named <= set(state)
    assert set(state) == {f"{index:032x}" for index in range(len(state))}
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert "version" not in notebook.metadata.language_info
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_normalizing_undoes_random_names(stored):
    """What a second execution would name otherwise: cells, widget models, the time."""
    first = notebooks.read(notebooks.find("toy", stored).path)
    text = re.sub(r"0{24}([0-9a-f]{8})", r"5eedf00d5eedf00d5eedf00d\1", json.dumps(first))
    second = nbformat.from_dict(json.loads(text))
    for cell in second.cells:
        cell.id = f"x{cell.id}"
        cell.metadata["execution"] = {"iopub.status.busy": "2017-01-01T00:00:00Z"}
    assert second != first
    assert notebooks.normalize(second) == first


def test_an_inserted_cell_leaves_the_others_ids_alone():
    cells = [new_code_cell("a"), new_code_cell("b"), new_code_cell("a")]
    ids = [cell.id for cell in notebooks.normalize(new_notebook(cells=cells)).cells]
    assert len(set(ids)) == 3
    longer = notebooks.normalize(new_notebook(cells=[new_code_cell("new"), *cells])).cells
    assert [cell.id for cell in longer[1:]] == ids


def test_streams_cut_at_random_are_joined(tmp_path):
    source = "import sys\nfor i in range(20):\n    print(i, flush=True)\n"
    book = toys.make_book(tmp_path, chatty=small(source))
    done = notebooks.store(notebooks.find("chatty", book), book=book)
    assert [output.text for output in done.notebook.cells[1].outputs] == ["".join(f"{i}\n" for i in range(20))]


def test_a_run_goes_into_its_own_folder_with_its_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = toys.make_book(tmp_path / "toys")
    chapter = notebooks.find("toy", book)
    before = chapter.path.read_bytes()
    done = notebooks.run(chapter, book=book, scale="paper", seed=3, data="images")
    assert chapter.path.read_bytes() == before
    assert done.folder == book / "runs" / "toy-paper-seed3"
    assert "scale paper · seed 3" in (done.folder / "notebook.ipynb").read_text()
    verdicts = json.loads((done.folder / "verdicts.json").read_text())
    assert [claim["verdict"] for claim in verdicts["claims"]] == ["held", "held"]
    assert (verdicts["scale"], verdicts["seed"], verdicts["device"]) == ("paper", 3, "cpu")
    assert verdicts["versions"]["torch"] and verdicts["seconds"] > 0


def test_a_chapter_runs_in_its_folder_and_finds_the_callers_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = toys.make_book(tmp_path / "toys", where=small("import os; print(os.getcwd(), os.environ['LESSONS_DATA'])"))
    done = notebooks.run(notebooks.find("where", book), book=book, data="images")
    assert done.notebook.cells[1].outputs[0].text.split() == [
        str(book / "book/w1-toys"),
        str(tmp_path / "images"),
    ]


def test_a_failing_cell_is_named_and_what_ran_is_kept(tmp_path):
    book = toys.make_book(tmp_path, broken=small("print('before')", "x = 1\n\nx / 0", "print('after')"))
    chapter = notebooks.find("broken", book)
    before = chapter.path.read_bytes()
    message = r"broken, code cell 2 \(x = 1\): ZeroDivisionError: division by zero\n.*broken-lesson-seed0"
    with pytest.raises(BookError, match=message):
        notebooks.store(chapter, book=book)
    assert chapter.path.read_bytes() == before
    folder = book / "runs" / "broken-lesson-seed0"
    kept = nbformat.read(folder / "notebook.ipynb", as_version=4)
    assert [output.output_type for cell in kept.cells[1:] for output in cell.outputs] == ["stream", "error"]
    assert not (folder / "verdicts.json").exists()


def test_a_kernel_that_dies_is_told_apart(tmp_path):
    book = toys.make_book(tmp_path, dying=small("import os\nos._exit(1)"))
    with pytest.raises(BookError, match=r"dying, code cell 1 \(import os\): the kernel died"):
        notebooks.run(notebooks.find("dying", book), book=book)


def test_a_run_at_paper_scale_that_was_killed_goes_on_where_it_was(tmp_path):
    work = """
import os, signal
from pathlib import Path
from lessons_lib import engine
Path("begun").open("a").write("x")
print(engine.map(lambda n: n * n, [(2,), (3,)]))
if len(Path("begun").read_text()) == 1:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    book = toys.make_book(tmp_path, small=small(work))
    chapter = notebooks.find("small", book)
    with pytest.raises(BookError, match="the kernel died"):
        notebooks.run(chapter, book=book, scale="paper")
    done = notebooks.run(chapter, book=book, scale="paper")
    assert done.notebook.cells[1].outputs[0].text == "[4, 9]\n"
    assert json.loads((done.folder / "verdicts.json").read_text())["reused"] == 2
    assert not (done.folder / "cache").exists()  # a run that is done has nothing to go on with


def test_two_runs_at_once_in_one_folder_are_one_too_many(tmp_path):
    book = toys.make_book(tmp_path, slow=small("import time; time.sleep(2)"))
    chapter = notebooks.find("slow", book)
    with ThreadPoolExecutor(2) as pool:
        tried = [pool.submit(notebooks.run, chapter, book=book) for _ in range(2)]
        failed = [future.exception() for future in tried]
    (refused,) = [error for error in failed if error]
    assert isinstance(refused, BookError)
    assert re.search("another run is at work in .*slow-lesson-seed0; wait for it", str(refused))
    notebooks.run(chapter, book=book)  # and then there is room again


def test_a_disk_that_is_full_for_a_while_does_not_end_a_run(tmp_path, monkeypatch):
    book = toys.make_book(tmp_path, small=small("1", "2", "3"))
    write, calls = notebooks.write, []

    def full_at_first(notebook, path):
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(notebook, path)

    monkeypatch.setattr(notebooks, "write", full_at_first)
    with pytest.warns(UserWarning, match="notebook.ipynb .No space left on device.; the run goes on"):
        done = notebooks.run(notebooks.find("small", book), book=book)
    assert [cell.execution_count for cell in nbformat.read(calls[0], 4).cells[1:]] == [1, 2, 3]
    assert (done.folder / "verdicts.json").exists()


def test_settings_are_refused_before_any_cell_runs(tmp_path):
    book = toys.make_book(tmp_path)
    with pytest.raises(SettingsError, match="LESSONS_SCALE is 'huge'; it must be one of: lesson, paper"):
        notebooks.run(notebooks.find("toy", book), book=book, scale="huge")
    assert not (book / "runs").exists()


def test_a_failed_write_leaves_the_old_notebook(tmp_path):
    path = tmp_path / "chapter.ipynb"
    notebooks.write(small("1"), path)
    before = path.read_bytes()
    with pytest.raises(nbformat.ValidationError):
        notebooks.write(new_notebook(cells=[{"cell_type": "poem", "id": "a", "metadata": {}, "source": ""}]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_notebook_is_refused(tmp_path):
    path = tmp_path / "chapter.ipynb"
    path.write_text("# A poem")
    with pytest.raises(BookError, match=r"chapter.ipynb is not a notebook"):
        notebooks.read(path)


def parametrized():
    made = small("n_train = 5\nwidth = 4  # units")
    made.cells[1].metadata["tags"] = ["parameters"]
    made.cells += [new_code_cell("print(n_train * width)"), new_code_cell("1 / (n_train - 8)")]
    return made


def test_parameters_replace_what_the_chapter_assigns_and_are_recorded(tmp_path):
    book = toys.make_book(tmp_path, small=parametrized())
    done = notebooks.run(notebooks.find("small", book), book=book, parameters={"n_train": 7})
    before, injected, after, _ = done.notebook.cells[1:]
    assert (before.source, after.outputs[0].text) == ("n_train = 5\nwidth = 4  # units", "28\n")
    assert (injected.source, injected.metadata.tags) == ("n_train = 7", ["injected-parameters"])
    assert done.folder.name == "small-lesson-seed0-n_train=7"
    assert json.loads((done.folder / "verdicts.json").read_text())["parameters"] == {"n_train": 7}
    assert len(notebooks.read(notebooks.find("small", book).path).cells) == 4


def test_cells_keep_their_numbers_when_parameters_are_set(tmp_path):
    book = toys.make_book(tmp_path, small=parametrized())
    with pytest.raises(BookError, match=r"small, code cell 3 \(1 / \(n_train - 8\)\): ZeroDivisionError"):
        notebooks.run(notebooks.find("small", book), book=book, parameters={"n_train": 8})
    (folder,) = (book / "runs").iterdir()
    cells = notebooks.read(folder / "notebook.ipynb").cells
    assert [cell.execution_count for cell in cells[1:4]] == [1, 1, 2]
    assert "Cell In[3]" in re.sub(r"\x1b\[[\d;]*m", "", "".join(cells[4].outputs[0].traceback))


def test_runs_with_other_parameters_have_other_folders():
    names = [
        notebooks._suffix(parameters)
        for parameters in (
            {},
            {"b": 1, "a": 2.5},
            {"a": [1, 2]},
            {"a": (1, 2)},
            {"a": "../x"},
            {"a": "x" * 300},
            {"a": "x" * 301},
        )
    ]
    assert names[:2] == ["", "-a=2.5-b=1"]
    assert notebooks._suffix({"a": 2.5, "b": 1}) == names[1]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.=+-]{0,60}", name) for name in names)


@pytest.mark.parametrize("name", ["n_seeds", "n_image_seeds", "n_seeds_hard"])
def test_too_few_seeds_are_refused_before_anything_runs(tmp_path, name):
    made = small(f"{name} = 10")
    made.cells[1].metadata["tags"] = ["parameters"]
    chapter, book = notebooks.find("small", toys.make_book(tmp_path, small=made)), tmp_path
    with pytest.raises(BookError, match=rf"small cannot run with {name}=4: its claims need at least 5 seeds"):
        notebooks.run(chapter, book=book, parameters={name: 4})
    assert not (book / "runs").exists()
    assert notebooks.run(chapter, book=book, parameters={name: 5}).notebook.cells[2].source == f"{name} = 5"


def test_parameters_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    book = toys.make_book(tmp_path, small=parametrized(), bare=small("1"))
    with pytest.raises(BookError, match="no parameter 'n_trian'. Did you mean n_train. It has: n_train, width"):
        notebooks.run(notebooks.find("small", book), book=book, parameters={"n_trian": 7})
    with pytest.raises(BookError, match="bare has 0 cells tagged 'parameters'"):
        notebooks.run(notebooks.find("bare", book), book=book, parameters={"n_train": 7})
    assert not (book / "runs").exists()
