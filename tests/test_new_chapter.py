"""A new chapter: what it is made of, what is refused, and that nothing is left half-written."""

import difflib
import re
import shutil
from pathlib import Path

import book_rules
import pytest
import toys
import yaml

from lessons_lib import board, new_chapter, notebooks
from lessons_lib.__main__ import main

ID = "1803.03635"
LINK = f"https://arxiv.org/abs/{ID}"
BESIDE = ("_toc.yml", "book/course.yml", "book/references.bib", "book/map.yml")
MAP = """\
# Where each chapter stands.
chapters:
  toy:
    {at: [0, 0], name: Toy, assumes: nothing}

relations:
  - [toy, contradicts, toy, "It is a toy."]
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    folder = toys.make_book(tmp_path)
    (folder / "book" / "references.bib").write_text("% Papers.\n\n@misc{toy,\n  url = {https://example.org},\n}\n")
    (folder / "book" / "map.yml").write_text(MAP)
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def added(before: bytes, after: bytes) -> list[str]:
    """The lines that are new; that any other changed is a failure."""
    lines = list(difflib.ndiff(before.decode().splitlines(), after.decode().splitlines()))
    assert not [line for line in lines if line.startswith("- ")]
    return [line[2:] for line in lines if line.startswith("+ ")]


def test_a_new_chapter_runs_and_keeps_every_rule_but_for_its_todos(book, capsys):
    assert main(["new", "lottery-tickets", "--arxiv", ID, "--part", "w1-toys", "--title", "Lottery $x_1$"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in shown] == ["1.", "2.", "3."] and "book/w1-toys/lottery-tickets.ipynb" in shown[0]
    chapter = notebooks.find("lottery-tickets")
    assert (chapter.part, chapter.title) == ("w1-toys", "Lottery $x_1$")
    before = chapter.path.read_bytes()
    notebooks.write(notebooks.read(chapter.path), chapter.path)
    assert chapter.path.read_bytes() == before

    notebook = notebooks.store(chapter).notebook
    broken = {rule.__name__ for rule in book_rules.RULES if list(rule(notebooks.normalize(notebook), chapter.name))}
    assert broken == {"has_no_todo"}
    assert f"[arXiv:{ID}]({LINK})" in notebook.cells[0].source
    assert not [cell.source for cell in notebook.cells if re.search("@[A-Z]", cell.source)]  # the words are filled in
    (claim,) = board.read_chapter(chapter.path).results
    assert claim.verdict == "held"


def test_files_beside_it_get_their_lines_and_lose_none(book):
    before = files(book)
    new_chapter.add("lottery-tickets", ID, "w1-toys", 'On "50%": a title')
    after = files(book)
    assert set(after) - set(before) == {"book/w1-toys/lottery-tickets.ipynb"}
    assert added(before["_toc.yml"], after["_toc.yml"]) == ["      - file: book/w1-toys/lottery-tickets"]
    added(before["book/course.yml"], after["book/course.yml"])
    row = board.course()[0]["rows"][-1]
    assert (row["chapter"], row["url"], row["paper"]) == ("lottery-tickets", LINK, 'On "50%": a title')
    assert (row["cite"], "asks" in row) == (["lottery-tickets"], False)
    entry = "\n".join(added(before["book/references.bib"], after["book/references.bib"]))
    assert "@misc{lottery-tickets," in entry and f"url = {{{LINK}}}" in entry and "year = {2018}" in entry
    assert r'title = {On "50\%": a title}' in entry
    added(before["book/map.yml"], after["book/map.yml"])
    places = yaml.safe_load(after["book/map.yml"])
    assert places["chapters"]["lottery-tickets"]["at"] == [1, 0]
    assert places["relations"][-1][:3] == ["lottery-tickets", "shares a question with", "toy"]


def test_this_very_book_can_be_added_to(tmp_path):
    """A chapter a part, one after the other, so that later ones find what earlier ones wrote."""
    for name in ("_config.yml", *BESIDE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(toys.ROOT / name, tmp_path / name)
    parts = board.course(tmp_path)
    for number, part in enumerate(parts):
        (tmp_path / "book" / part["key"]).mkdir()
        before = files(tmp_path)
        new_chapter.add(f"new-{number}", f"1803.0000{number}", part["key"], book=tmp_path)
        after = files(tmp_path)
        assert all(added(before[name], after[name]) for name in BESIDE)

    contents = notebooks._entries(yaml.safe_load((tmp_path / "_toc.yml").read_text()))
    for number, (old, new) in enumerate(zip(parts, board.course(tmp_path), strict=True)):
        assert new["rows"][:-1] == old["rows"] and new["rows"][-1]["chapter"] == f"new-{number}"
        assert ("asks" in new["rows"][-1]) == ("asks" in new["rows"][0])
        own = [entry for entry in contents if entry.startswith(f"book/{old['key']}/")]
        assert own[0].endswith("/index") and own[-1].endswith(f"/new-{number}")
    places = yaml.safe_load((tmp_path / "book" / "map.yml").read_text())["chapters"]
    assert len({tuple(entry["at"]) for entry in places.values()}) == len(places)


def test_a_part_of_which_only_the_index_is_in_the_contents(book):
    (book / "_toc.yml").write_text(
        "# C\nroot: book/intro\nchapters:\n  - file: book/w1-toys/index\n  - file: book/end\n"
    )
    new_chapter.add("lottery-tickets", ID, "w1-toys")
    index, end = yaml.safe_load((book / "_toc.yml").read_text())["chapters"]
    assert index == {"file": "book/w1-toys/index", "sections": [{"file": "book/w1-toys/lottery-tickets"}]}
    assert end == {"file": "book/end"}


def test_a_paper_that_is_in_the_bibliography_is_cited_by_its_key(book):
    path = book / "book" / "references.bib"
    path.write_text(
        f"@misc{{other,\n  url = {{https://example.org}},\n}}\n\n@misc{{frankle,\n  url = {{{LINK}}},\n}}\n"
    )
    before = path.read_text()
    made = new_chapter.add("lottery-tickets", ID, "w1-toys")
    assert path.read_text() == before
    assert board.course()[0]["rows"][-1]["cite"] == ["frankle"]
    assert "{cite:p}`frankle`" in notebooks.read(made).cells[0].source


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Lottery"}, "'Lottery' is no chapter's name: it must be lower-case words joined by hyphens"),
        ({"name": "two--hyphens"}, "'two--hyphens' is no chapter's name"),
        ({"name": "../up"}, "'../up' is no chapter's name"),
        ({"name": "toy"}, "The name 'toy' is taken: book/course.yml has a row for it."),
        ({"name": "old"}, "The name 'old' is taken: there is book/w1-toys/old.md."),
        ({"name": "cited"}, "The name 'cited' is taken: book/references.bib has an entry of that key."),
        ({"arxiv": "1803.03635v2"}, "'1803.03635v2' is no arXiv ID: it must look like 1703.04933"),
        ({"arxiv": "1813.03635"}, "'1813.03635' is no arXiv ID"),
        ({"arxiv": "1803.0363"}, "'1803.0363' is no arXiv ID"),
        ({"arxiv": LINK}, "is no arXiv ID"),
        (
            {"part": "w1-toy"},
            "There is no part 'w1-toy'. Did you mean w1-toys? The parts in book/course.yml are: w1-toys.",
        ),
        ({"title": "Two\nlines"}, r"'Two\nlines' is no title: it must be one line, without braces and backslashes."),
        ({"title": "A {brace"}, "is no title"),
    ],
)
def test_what_is_refused_is_one_line_and_changes_nothing(book, capsys, changed, said):
    (book / "book" / "w1-toys" / "old.md").write_text("")
    with open(book / "book" / "references.bib", "a") as references:
        references.write("\n@misc{cited,\n}\n")
    before = files(book)
    given = {"name": "lottery-tickets", "arxiv": ID, "part": "w1-toys", "title": "Lottery tickets"} | changed
    options = [word for key in ("arxiv", "part", "title") for word in (f"--{key}", given[key])]
    assert main(["new", given["name"], *options]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert said in shown.err
    assert files(book) == before


@pytest.mark.parametrize(
    "name", ["0704.0001", "1412.9999", "1501.00001", "cs/0309136", "math.GT/0309136", "hep-th/9901001"]
)
def test_the_forms_of_an_id(book, name):
    new_chapter.add("lottery-tickets", name, "w1-toys")
    assert f"https://arxiv.org/abs/{name}" in (book / "book" / "references.bib").read_text()


@pytest.mark.parametrize("fails", range(5))
def test_a_file_that_cannot_be_replaced_leaves_all_as_they_were(book, monkeypatch, fails):
    before, replace, calls = files(book), Path.replace, []

    def failing(self, target):
        calls.append(target)
        if len(calls) > fails:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(notebooks.BookError, match=r"Permission denied.*Nothing was changed\."):
        new_chapter.add("lottery-tickets", ID, "w1-toys")
    assert len(calls) == fails + 1
    assert files(book) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_toc.yml", "root: book/intro\n"),
        ("_toc.yml", "root: [\n"),
        ("book/course.yml", "[{key: w1-toys, rows: [{paper: P, venue: V, url: U, chapter: toy}]}]\n"),
        ("book/map.yml", "relations: []\nchapters: {}\n"),
        ("book/references.bib", None),
    ],
)
def test_a_layout_that_lines_cannot_be_added_to_is_refused(book, name, content):
    (book / name).unlink()
    if content:
        (book / name).write_text(content)
    before = files(book)
    with pytest.raises(notebooks.BookError):
        new_chapter.add("lottery-tickets", ID, "w1-toys")
    assert files(book) == before
