"""Recorded runs: what a run tells of itself, what is kept and refused, and where readers see it."""

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess

import numpy as np
import pytest
import toys
from sites import ROOT, TOY, add_to_contents, build, copy_book

from lessons_lib import OWN_THREADS, board, notebooks, other_seeds, provenance, records
from lessons_lib.__main__ import main
from lessons_lib.notebooks import BookError

CELLS = [
    "# A toy chapter",
    ("code", "from lessons_lib import data\nfrom lessons_lib.claims import Claim, Claims, above", {}),
    ("code", "n_train = 7\nshift = 0.0\nkinds = ['a', 'b']", {"tags": ["parameters"]}),
    ("code", "digits = data.load('digits', n_train, 5)\nn_train = None", {}),
    (
        "code",
        "claims = Claims('toy', Claim('C1', 'It is $x$ large.', paper='large', quantity='size', holds=above(1), "
        "null=0), Claim('C2', 'It is 4.', paper='4', quantity='sum', holds=above(3), evidence='exact'))",
        {},
    ),
    ("code", "claims['C1'].measure([2.0 + shift, 2.1 + shift, 2.2 + shift, 2.1 + shift, 2.0 + shift], note='So.')", {}),
    ("code", "claims['C2'].measure(2 + 2)", {}),
    "## Verdicts",
    ("code", "claims.verdicts()", {}),
    "## Bigger\n\nThe command.",
]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A book in a git repository of its own, its chapter stored as a run of lesson scale leaves it."""
    folder = toys.make_book(tmp_path_factory.mktemp("toys"), toy=toys.notebook(CELLS))
    (folder / ".gitignore").write_text("runs/\nrecords/\n.*.part\n")
    chapter = notebooks.find("toy", folder)
    lesson = notebooks.run(chapter, book=folder, data="/nowhere")
    notebooks.write(lesson.notebook, chapter.path)
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "--no-gpg-sign", "-m", "A toy"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    return folder


@pytest.fixture(scope="module")
def finished(book):
    """The folder of a finished run, larger and with another verdict."""
    parameters = {"n_train": 9, "shift": -3.0}
    run = notebooks.run(notebooks.find("toy", book), book=book, scale="paper", device="cpu", parameters=parameters)
    return run.folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it to alter."""
    return shutil.copytree(finished, tmp_path / "run")


def told(folder):
    return json.loads((folder / "verdicts.json").read_text())


def digits_hash(n_train, n_test):
    """The checksum of one load of the digits, from scikit-learn and the seeds alone."""
    import torch
    from sklearn.datasets import load_digits

    from lessons_lib.settings import torch_generator

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch_generator("digits", "split", base=0)).numpy()
    draws, digest = torch_generator("data", "digits", base=0), hashlib.sha256()
    for part, count in ((order[:1200], n_train), (order[1200:], n_test)):
        rows = part[torch.randperm(len(part), generator=draws)[:count].numpy()]
        digest.update(images[rows].tobytes() + labels[rows].astype(np.int64).tobytes())
    return hashlib.sha256(digest.digest()).hexdigest()


def test_a_run_tells_where_its_numbers_come_from(book, finished):
    run = told(finished)
    head = subprocess.run(["git", "-C", book, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert (run["commit"], run["clean"]) == (head, True)
    assert run["parameters"] == {"n_train": 9, "shift": -3.0}
    assert run["sizes"] == {"n_train": 9, "shift": -3.0, "kinds": ["a", "b"]}  # those in force, when they were set
    assert run["data"] == [{"name": "digits", "n_train": 9, "n_test": 5, "times": 1, "sha256": digits_hash(9, 5)}]
    # Paper scale takes every core, unless the caller, and not the import here, has said otherwise.
    own = "OMP_NUM_THREADS" in OWN_THREADS
    assert run["threads"] == (os.cpu_count() if own else int(os.environ["OMP_NUM_THREADS"]))
    assert run["seconds"] > 0 and run["peak_memory_mb"] > 50
    assert re.fullmatch(r".+, \d+ cores \(\w+ \w+\)", run["machine"])
    assert {"python", "torch", "numpy"} <= set(run["versions"])
    assert not [cell for cell in notebooks.read(finished / "notebook.ipynb").cells if "provenance" in cell.source]


def test_a_tree_with_changes_and_a_folder_without_git_are_told(book, tmp_path):
    assert provenance.commit(book)["clean"] is True
    (book / "left.txt").write_text("over")
    assert provenance.commit(book)["clean"] is False
    (book / "left.txt").unlink()
    assert provenance.commit(tmp_path) is None


def test_record_keeps_a_run_and_the_board_shows_it_beside_the_lesson(book, finished, monkeypatch, capsys):
    monkeypatch.chdir(book)
    assert main(["record", str(finished)]) == 0
    path = book / "records" / "toy-n_train=9-shift=-3.0.json"
    assert capsys.readouterr().out == f"kept in {path}\n"
    kept = json.loads(path.read_text())
    assert list(kept) == list(records.FIELDS)
    assert [row["verdict"] for row in kept["claims"]] == ["failed", "held"]
    assert {row["note"] for row in kept["claims"]} == {""}  # the remark is on the lesson's verdict
    assert main(["board"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(index for index, line in enumerate(lines) if "C1" in line)
    assert "✓ C1  held" in lines[first]
    assert re.search(r"✗ failed +−0.92 \[.*\], 5 seeds; recorded in toy-n_train=9-shift=-3.0", lines[first + 2])
    assert main(["board", "--json"]) == 0
    (chapter,) = json.loads(capsys.readouterr().out)
    assert chapter["records"][0]["commit"] == kept["commit"]


def edit(change):
    def altered(folder):
        run = told(folder)
        change(run)
        (folder / "verdicts.json").write_text(json.dumps(run))

    return altered


def edit_both(change):
    """Alter the claims in verdicts.json and in the notebook alike."""

    def altered(folder):
        run, notebook = told(folder), notebooks.read(folder / "notebook.ipynb")
        change(run["claims"])
        change(notebooks.record(notebook)["claims"])
        (folder / "verdicts.json").write_text(json.dumps(run))
        notebooks.write(notebook, folder / "notebook.ipynb")

    return altered


def in_notebook(change):
    def altered(folder):
        notebook = notebooks.read(folder / "notebook.ipynb")
        change(notebook)
        notebooks.write(notebook, folder / "notebook.ipynb")

    return altered


def not_run(notebook):
    notebook.cells[-2].execution_count = None


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda folder: (folder / "verdicts.json").unlink(), "has no verdicts.json"),
        (lambda folder: (folder / "notebook.ipynb").unlink(), "has no notebook.ipynb"),
        (lambda folder: (folder / "verdicts.json").write_bytes(pickle.dumps({})), "is not JSON"),
        (lambda folder: (folder / "verdicts.json").write_text('{"seconds": NaN}'), "NaN is no JSON"),
        (lambda folder: (folder / "verdicts.json").write_text("[]"), "is list, not an object"),
        (in_notebook(not_run), "did not run to the end"),
        (edit(lambda run: run.pop("commit")), "lacks 'commit'"),
        (edit(lambda run: run.update(commit=None)), "'commit' of verdicts.json is None"),
        (edit(lambda run: run.update(commit="main")), "'main' is no git commit"),
        (edit(lambda run: run.update(threads=True)), "'threads' of verdicts.json is True"),
        (edit(lambda run: run["data"][0].pop("sha256")), "lacks 'sha256'"),
        (edit(lambda run: run.update(chapter="tory")), "no chapter 'tory'"),
        (edit(lambda run: run.update(scale="lesson", parameters={})), "at lesson scale with nothing set"),
        (edit(lambda run: run["parameters"].update(data="/home/ann/images")), "a path of one machine: '/home/ann"),
        (edit(lambda run: run["parameters"].update(data="C:\\images")), "a path of one machine"),
        (edit(lambda run: run["claims"][0].update(verdict="held")), "not those in its notebook"),
        (edit_both(lambda claims: claims[0].update(verdict="held")), "C1 is stored as"),
        (edit_both(lambda claims: claims[0].update(mean=2.0)), "C1 is stored as"),
        (edit_both(lambda claims: claims[0].update(values=[1.0])), "C1 cannot be decided from its values"),
        (edit_both(lambda claims: claims[0].update(rule=["above", -9.0], null=-10)), "by another rule"),
        (edit_both(lambda claims: claims[0].update(id="C9")), "toy has no claim C9"),
        (edit_both(lambda claims: claims.append(claims[1])), "it has C2 twice"),
        (edit_both(lambda claims: claims.pop()), "lacks the chapter's claims C2"),
    ],
)
def test_what_is_incomplete_or_was_altered_is_refused(book, run, alter, said, monkeypatch):
    monkeypatch.chdir(book)
    before = sorted((book / "records").glob("*")) if (book / "records").exists() else []
    alter(run)
    with pytest.raises(BookError, match=re.escape(said)) as refusal:
        records.keep(run)
    assert str(refusal.value).startswith(f"{run} cannot be recorded: ")
    assert (sorted((book / "records").glob("*")) if (book / "records").exists() else []) == before


def test_names_tell_runs_apart():
    run = {"chapter": "toy", "scale": "paper", "seed": 0, "parameters": {}}
    many = {f"n_{index}": index for index in range(20)}
    names = [
        records.name_of(run | changes)
        for changes in (
            {},
            {"seed": 3},
            {"parameters": {"n": 5}},
            {"scale": "lesson", "parameters": {"n": 5}},
            {"parameters": {"n": [5, 6]}},
            {"parameters": {"n": "../5"}},
            {"parameters": many},
        )
    ]
    assert names[:4] == ["toy", "toy-seed3", "toy-n=5", "toy-lesson-n=5"]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.=+-]{1,60}", name) for name in names)


def test_the_command_repeats_the_run():
    run = {"chapter": "toy", "scale": "paper", "seed": 3, "parameters": {"n": 5, "sizes": [1, 2], "kind": "a"}}
    command = records.Record("toy", run, {}).command
    assert command.split(" --set ") == [
        "python -m lessons_lib run toy --scale paper --seed 3", "n=5", "'sizes=[1, 2]'", "\"kind='a'\""
    ]  # fmt: skip


def test_mixed_precision_and_an_interruption_are_told(book, finished, tmp_path):
    again = tmp_path / finished.name
    shutil.copytree(finished, again)
    run = json.loads((again / "verdicts.json").read_text())
    (again / "verdicts.json").write_text(json.dumps(run | {"precision": "mixed", "reused": 3, "seed": 4}))
    path = records.keep(again, book)
    record = records.Record(path.stem, json.loads(path.read_text()), {})
    path.unlink()
    assert "--seed 4 --precision mixed" in record.command
    assert any("3 results were there already" in fact for fact in record.facts)
    assert any("bfloat16" in fact for fact in record.facts)


# ------------------------------------------------------------------------------------ where readers see it


@pytest.fixture(scope="module")
def toy_site(book, finished, tmp_path_factory):
    """A site of the toy chapter alone, with its record."""
    source = copy_book(tmp_path_factory.mktemp("site"), chapters=False)
    shutil.copy(notebooks.find("toy", book).path, source / f"{TOY}.ipynb")
    add_to_contents(source, TOY)
    course = source / "book" / "course.yml"
    row = "    - {paper: Toys, venue: T, url: 'https://example.org', chapter: toy}\n"
    course.write_text(re.sub(r"(?m)^(  rows:\n)", rf"\1{row}", course.read_text(), count=1))
    records.keep(finished, book)
    notebooks.run(notebooks.find("toy", book), book=book, seed=5, device="cpu")
    other_seeds.keep(notebooks.find("toy", book), book)
    shutil.copytree(book / "records", source / "records", dirs_exist_ok=True)
    return build(source)


def test_the_record_stands_under_bigger_on_its_page(toy_site):
    markup = (toy_site.html / f"{TOY}.html").read_text()
    page = toy_site.page(TOY)
    assert markup.index("The command.") < markup.index('aria-label="Recorded run"')
    assert "C1 It is \\(x\\) large. ✓ held 2.08 [1.98, 2.18], 5 seeds ✗ failed −0.92" in page.text
    assert "another verdict" in page.text
    assert "python -m lessons_lib run toy --scale paper --set n_train=9 --set shift=-3.0" in page.text
    assert "Data: digits, 9 + 5 (training + test)." in page.text
    assert f"commit {told_record(toy_site)['commit'][:10]}." in page.text
    assert "kinds = ['a', 'b']" in page.text


def told_record(site):
    (path,) = (site.source / "records").glob("*.json")
    return json.loads(path.read_text())


def test_the_scoreboard_says_it_in_a_line_that_leads_there(toy_site):
    page = toy_site.page("book/scoreboard")
    assert "Recorded run : ✗ failed −0.92 [−1.02, −0.82], 5 seeds (digits)" in page.text
    (link, _) = [link for link in page.all("a", key="href") if "recorded" in link]
    address, _, anchor = link.partition("#")
    assert address.endswith("toy.html") and anchor in toy_site.page(TOY).all("p", "div", "span", "section", key="id")
    rows = json.loads((toy_site.html / "book" / "scoreboard.json").read_text())["claims"]
    assert [row["recorded"][0]["verdict"] for row in rows] == ["failed", "held"]
    assert rows[0]["recorded"][0]["data"] == ["digits"]


def test_verdicts_at_other_seeds_stand_below_the_chapters_and_on_the_scoreboard(toy_site):
    page = toy_site.page(TOY)
    assert (
        "At other seeds. Other base seeds of the book (5) gave 1 of 1 verdicts on measured claims as above."
        in page.text
    )
    assert "the same at 1 other base seed" in toy_site.page("book/scoreboard").text
    rows = json.loads((toy_site.html / "book" / "scoreboard.json").read_text())["claims"]
    assert [row.get("other_seeds") for row in rows] == [{"5": "held"}, None]


def test_what_is_no_record_is_told_with_its_reason(tmp_path):
    (tmp_path / "records").mkdir()
    for name, content in (("toy.json", "{"), ("toy-x.json", '{"chapter": "toy"}'), ("other.json", "{}")):
        (tmp_path / "records" / name).write_text(content)
    first, second = records.of("toy", [], tmp_path)
    assert first.problem == "records/toy-x.json is no valid record: it lacks 'scale'."
    assert second.problem.startswith("records/toy.json is no valid record: toy.json is not JSON")
    assert not first.results and not second.results


# ------------------------------------------------------------------------------ the records of this very book


def test_every_record_of_the_book_is_valid_and_named_by_what_was_run():
    files = sorted(set((ROOT / "records").glob("*")) - {ROOT / other_seeds.FOLDER})
    known = {record.name: record for chapter in board.chapters(ROOT) for record in chapter.records}
    assert [path.suffix for path in files] == [".json"] * len(files)
    assert sorted(known) == [path.stem for path in files]
    for path in files:
        record = known[path.stem]
        assert not record.problem
        assert path.stem == records.name_of(record.run)
        assert set(record.run) == set(records.FIELDS)
        assert record.run["clean"], f"{path.name} is of a tree with changes; nobody can run that again"
        assert not any(row["note"] for row in record.run["claims"])
        # Its command is still one: a parameter that was given another name is refused here.
        chapter = notebooks.find(record.run["chapter"])
        notebooks.inject(notebooks.read(chapter.path), record.run["parameters"], chapter.name)
        assert path.stat().st_size < 100_000
