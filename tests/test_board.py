"""The scoreboard read out of notebooks: made-up chapters, whole ones and damaged ones."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from lessons_lib import board
from lessons_lib.claims import RECORD_TYPE, Claim, Claims, above, below, between
from lessons_lib.notebooks import BookError

COURSE = [
    {
        "key": "first",
        "rows": [
            {"paper": "Beta", "venue": "ICML", "url": "https://example.org/b", "chapter": "beta"},
            {"paper": "Alpha", "venue": "ICLR", "url": "https://example.org/a", "chapter": "alpha"},
        ],
    },
    {
        "key": "second",
        "rows": [
            {"paper": "Alpha again", "venue": "ICLR", "url": "https://example.org/a", "chapter": "alpha"},
            {"paper": "Gamma", "venue": "NIPS", "url": "https://example.org/g", "chapter": "gamma"},
        ],
    },
]


def record(stem):
    claims = Claims(
        stem,
        Claim("C1", "It is large.", paper="3", quantity="size", holds=above(1), null=0),
        Claim("C2", "It is small.", paper="1", quantity="size", holds=below(2), evidence="exact"),
        Claim("C10", "It is so-so.", paper="1", quantity="size", holds=between(1, 2), null=0),
    )
    claims["C1"].measure([2.9, 3.0, 3.1, 3.2, 3.3])
    claims["C2"].measure([2.5, 3])
    claims["C10"].measure([1.9, 2.0, 2.1, 2.0, 2.0])
    return claims.verdicts().record()


def write(book, part, stem, stored, title="# A title"):
    outputs = [{"output_type": "execute_result", "data": {"text/plain": "", RECORD_TYPE: one}} for one in stored]
    cells = [
        {"cell_type": "markdown", "source": [f"{title}\n", "\n", "Words."]},
        {"cell_type": "code", "source": [], "outputs": [{"output_type": "stream", "text": "hello"}, *outputs]},
    ]
    path = book / "book" / part / f"{stem}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))
    return path


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("")
    (tmp_path / "book" / "course.yml").write_text(yaml.safe_dump(COURSE))
    return tmp_path


def test_chapters_come_in_the_course_s_order_each_once(book):
    write(book, "first", "alpha", [record("alpha")])
    write(book, "first", "beta", [record("beta")])
    assert [(chapter.part, chapter.stem) for chapter in board.chapters(book)] == [("first", "beta"), ("first", "alpha")]


def test_a_paper_listed_twice_lives_where_it_is_named_first(book):
    rows = [row for part in board.course(book) for row in part["rows"]]
    assert [row["file"] for row in rows] == [
        "first/beta.ipynb",
        "first/alpha.ipynb",
        "first/alpha.ipynb",
        "second/gamma.ipynb",
    ]


def test_a_statement_that_goes_on_knows_what_from():
    statements = ["Depth helps.", "Width helps ...", "... less ...", "... and not always.", "Bias does not."]
    claims = [
        Claim(f"C{number}", statement, paper="yes", quantity="size", holds=above(1), null=0).measure([2.0] * 5)
        for number, statement in enumerate(statements)
    ]
    chapter = board.Chapter("part", "stem", "Title", Path("stem.ipynb"), tuple(claims))
    assert [chapter.begun(claim) for claim in claims] == [
        "", "", "Width helps ...", "Width helps ... less ...", "",
    ]  # fmt: skip


def test_a_chapter_has_its_title_scale_and_verdicts(book):
    chapter = board.read_chapter(write(book, "first", "alpha", [record("alpha")], title="# Alpha, tried"))
    assert (chapter.title, chapter.scale, chapter.problem) == ("Alpha, tried", "lesson", "")
    assert [result.verdict for result in chapter.results] == ["held", "failed", "undecided"]
    assert chapter.count("held") == 1


def test_the_last_record_of_a_notebook_counts(book):
    first, last = record("alpha"), record("alpha")
    last["claims"] = last["claims"][:1]
    assert len(board.read_chapter(write(book, "first", "alpha", [first, last])).results) == 1


def test_what_was_measured_is_written_as_in_the_chapter(book):
    results = board.read_chapter(write(book, "first", "alpha", [record("alpha")])).results
    assert board.measured(results[0]) == "3.10 [2.90, 3.30], 5 seeds"
    assert board.measured(results[1]) == "2.5 to 3, 2 cases, computed exactly"


def test_the_text_names_every_claim_and_counts_the_verdicts(book):
    write(book, "first", "alpha", [record("alpha")], title="# Alpha, tried")
    text = board.text(book)
    assert text.startswith("Alpha, tried  (alpha)\n  ✓ C1   held       It is large.\n")
    assert "  ? C10  undecided  It is so-so.\n" in text
    assert text.endswith("1 chapter, 3 claims: 1 held, 1 failed, 1 undecided")


def test_the_json_keeps_the_record(book):
    write(book, "first", "alpha", [record("alpha")])
    (row,) = json.loads(json.dumps(board.as_json(book)))
    assert row["chapter"] == "alpha"
    assert row["claims"] == record("alpha")["claims"]


def test_an_empty_book_has_an_empty_board(book):
    assert board.chapters(book) == []
    assert board.as_json(book) == []
    assert board.text(book) == "0 chapters, 0 claims: 0 held, 0 failed, 0 undecided"


def altered(change):
    stored = record("alpha")
    change(stored)
    return [stored]


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([], "alpha holds no verdicts; execute it: python -m lessons_lib store alpha"),
        ([record("beta")], "alpha has a damaged record: it is signed 'beta'"),
        (["not a record"], "alpha has a damaged record"),
        (altered(lambda one: one.pop("claims")), "claims is missing"),
        (altered(lambda one: one["claims"][0].pop("values")), "values is missing"),
        (altered(lambda one: one["claims"][0].update(rule=["above"])), "alpha has a damaged record"),
        (altered(lambda one: one["claims"][1].update(verdict="held")), "says that C2 held, its values say failed"),
        (altered(lambda one: one["claims"][0].update(values=[3.0])), "C1: 1 seeds"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_named_not_shown(book, stored, said):
    write(book, "first", "alpha", stored)
    (chapter,) = board.chapters(book)
    assert said in chapter.problem
    assert chapter.results == ()
    assert f"  ! {chapter.problem}" in board.text(book)
    assert board.as_json(book)[0]["problem"] == chapter.problem


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}'])
def test_a_file_that_is_no_notebook_is_named(book, content):
    path = write(book, "first", "alpha", [])
    path.write_text(content)
    assert board.read_chapter(path).problem.startswith("alpha is not a notebook that can be read")


def test_a_row_that_lacks_something_is_named(book):
    course = deepcopy(COURSE)
    del course[0]["rows"][0]["url"]
    (book / "book" / "course.yml").write_text(yaml.safe_dump(course))
    with pytest.raises(BookError, match="a row of first lacks url"):
        board.course(book)


def test_a_course_that_is_not_yaml_is_named(book):
    (book / "book" / "course.yml").write_text("- [")
    with pytest.raises(BookError, match=r"course\.yml is not valid YAML"):
        board.course(book)


def test_reading_the_board_imports_no_torch():
    code = "import sys; from lessons_lib import board; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0
