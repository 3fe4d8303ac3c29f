"""Runs at other base seeds that are kept: what is refused, and what is said of them."""

import json

import pytest
import toys
from sites import ROOT

from lessons_lib import board, notebooks, other_seeds
from lessons_lib.claims import Claim, Claims, above, decide
from lessons_lib.notebooks import BookError


def rows(values, quantity="size"):
    """The rows of a run of the toy chapter, with other values of its measured claim."""
    claims = Claims(
        "toy",
        Claim("C1", "It is large.", paper="large", quantity=quantity, holds=above(1), null=0),
        Claim("C2", "It is 4.", paper="4", quantity="sum", holds=above(3), evidence="exact"),
    )
    claims["C1"].measure(values)
    claims["C2"].measure(4)
    return [result.record() for result in claims.verdicts().results]


def add_run(book, seed, values, **changes):
    run = {"chapter": "toy", "commit": "a" * 40, "machine": "toy", "clean": True, "claims": rows(values)} | changes
    folder = book / "runs" / f"toy-lesson-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdicts.json").write_text(json.dumps(run))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = toys.make_book(tmp_path_factory.mktemp("toys"), toy=toys.notebook(toys.CLAIMS))
    notebooks.store(notebooks.find("toy", folder), book=folder)
    return folder


@pytest.fixture
def book(stored):
    """The same book, with runs at two other seeds: one says the same, one the opposite."""
    add_run(stored, 3, [3.0, 3.1, 3.2, 3.1, 3.0])
    add_run(stored, 8, [-3.0, -3.1, -3.2, -3.1, -3.0])
    return stored


def read(book):
    chapter = board.with_runs(board.read_chapter(notebooks.find("toy", book).path), book)
    assert not chapter.repeats_problem
    return chapter


def test_what_is_kept_is_decided_again_and_counted(book):
    path = other_seeds.keep(notebooks.find("toy", book), book)
    assert "verdict" not in path.read_text()
    chapter = read(book)
    assert [(each.seed, each.results["C1"].verdict) for each in chapter.repeats] == [(3, "held"), (8, "failed")]
    assert board.steadiness([chapter]) == board.Steadiness(2, 1, 1)
    measured, exact = chapter.results
    assert other_seeds.told(measured, chapter.repeats) == "at 2 other base seeds: 1 held, 1 failed"
    assert other_seeds.told(measured, chapter.repeats[:1]) == "the same at 1 other base seed"
    assert other_seeds.told(exact, chapter.repeats) == other_seeds.told(measured, ()) == ""
    (first, second) = board.rows([chapter], lambda chapter, claim: claim)
    assert first["other_seeds"] == {"3": "held", "8": "failed"} and "other_seeds" not in second
    toy, *_ = [each for each in board.as_json(book) if each["chapter"] == "toy"]
    assert [claim.get("other_seeds") for claim in toy["claims"]] == [first["other_seeds"], None]


def test_all_base_seeds_together_decide_by_their_means():
    def repeat(seed, mean):
        results = {row["id"]: decide(row) for row in rows([mean - 9, mean + 9, mean, mean - 5, mean + 5])}
        return other_seeds.Repeat(seed, "a" * 40, "toy", results)

    repeats = [repeat(seed, mean) for seed, mean in enumerate((2.1, 1.8, 2.0, 2.2))]
    measured, exact = (decide(row) for row in rows([-7.0, 11.0, 2.0, -3.0, 7.0]))
    assert {measured.verdict, *(each.results["C1"].verdict for each in repeats)} == {"undecided"}
    whole = other_seeds.together(measured, repeats)
    assert whole.verdict == "held" and whole.values == pytest.approx([2.0, 2.1, 1.8, 2.0, 2.2])
    assert other_seeds.together(exact, repeats) is None is other_seeds.together(measured, repeats[:3])
    repeats[0] = repeat(0, 40.0)
    assert other_seeds.told(measured, repeats).startswith("at 4 other base seeds: 3 undecided, 1 held; all together: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean": False}, "the run at seed 8 is of code that was not committed"),
        ({"claims": rows([1.0, 2, 3, 4, 5], "length")}, "the run at seed 8 is of other claims than toy has"),
    ],
)
def test_a_run_of_other_code_or_claims_is_refused(book, changes, message):
    add_run(book, 8, [1.0, 2, 3, 4, 5], **changes)
    with pytest.raises(BookError, match=message):
        other_seeds.keep(notebooks.find("toy", book), book)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"size"', '"length"'), ('"toy"', '"yot"'), ("3.1", "NaN"), ('"machine"', '"engine"'), ("{", "[")],
)
def test_a_file_that_does_not_fit_is_one_problem_that_names_it(book, before, after):
    path = other_seeds.keep(notebooks.find("toy", book), book)
    path.write_text(path.read_text().replace(before, after, 1))
    chapter = board.with_runs(board.read_chapter(notebooks.find("toy", book).path), book)
    assert chapter.results and not chapter.repeats
    assert chapter.repeats_problem.startswith("records/other-seeds/toy.json does not fit the chapter (")
    assert chapter.repeats_problem in board.text(book)


def test_every_chapter_of_the_book_was_run_at_other_seeds():
    kept = {path.stem for path in (ROOT / other_seeds.FOLDER).iterdir()}
    chapters = {chapter.stem: chapter for chapter in board.chapters(ROOT)}
    assert kept == set(chapters)
    for chapter in chapters.values():
        assert not chapter.repeats_problem
        assert len({repeat.seed for repeat in chapter.repeats} - {0}) == len(chapter.repeats) >= 4
