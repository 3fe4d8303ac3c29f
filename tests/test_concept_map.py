"""The map of the papers: every chapter in it once, what it refuses, and where its lines end."""

import re
import shutil
import sys

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from toys import ROOT

from lessons_lib import board

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
import concept_map


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "map.yml", tmp_path / "book" / "map.yml")
    return tmp_path


@pytest.fixture(scope="module")
def stems():
    return {row["chapter"] for part in board.course(ROOT) for row in part["rows"]}


def change(book, edit):
    path = book / "book" / "map.yml"
    found = yaml.safe_load(path.read_text())
    edit(found)
    path.write_text(yaml.safe_dump(found))


def test_every_chapter_of_the_course_is_in_the_map(stems):
    chapters, relations = concept_map.read_map(ROOT, stems)
    assert not stems - set(chapters), "book/map.yml has no place for these"
    assert all(entry["assumes"] for entry in chapters.values())
    assert {end for start, _, stop, _ in relations for end in (start, stop)} == stems


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda m: m["chapters"].pop("background"), "no place for: background"),
        (lambda m: m["chapters"]["background"].update(needs=["nowhere"]), "that course.yml has not: nowhere"),
        (lambda m: m["relations"][0].__setitem__(1, "likes"), r"relations \['likes'\]"),
        (lambda m: m["chapters"]["background"].update(at=[0, 0]), "in one place"),
    ],
)
def test_a_map_at_odds_with_the_course_is_refused(book, stems, edit, complaint):
    change(book, edit)
    with pytest.raises(concept_map.MapError, match=complaint):
        concept_map.read_map(book, stems)


def test_lines_end_at_the_borders_of_boxes_and_boxes_lead_to_pages():
    chapters = {
        "a": {"at": [0, 0], "name": "A"},
        "b": {"at": [1, 0], "name": "B/two"},
        "c": {"at": [1, 1], "name": "C"},
    }
    relations = [["b", "contradicts", "a", ""], ["b", "shares a question with", "c", ""]]
    svg = concept_map.drawing(chapters, relations, {"a": "a.html", "b": "b.html"}.get)
    across, down = re.findall(r'<line class="(\w+)" x1="(.*?)" y1="(.*?)" x2="(.*?)" y2="(.*?)"( marker)?', svg)
    left_of_b, right_of_a = concept_map.STEP[0] + 6, concept_map.BOX[0] + 6
    assert (across[0], across[5]) == ("contradicts", " marker") and (down[0], down[5]) == ("shares", "")
    assert (float(across[1]), float(across[3])) == (left_of_b - 3, right_of_a + 3)
    assert float(down[1]) == float(down[3]) and float(down[2]) == concept_map.BOX[1] + 6 + 3
    assert re.findall(r'<a href="(.*?)">', svg) == ["a.html", "b.html"] and svg.count("<tspan") == 4


def test_reading_takes_longer_with_more_words_figures_and_code():
    words = new_markdown_cell("word " * 1_800)
    figures = [new_code_cell("", metadata={"mystnb": {"figure": {"name": "f"}}}) for _ in range(20)]
    code, folded = new_code_cell("x = 1\n" * 120), new_code_cell("x = 1\n" * 120, metadata={"tags": ["hide-input"]})
    times = [concept_map.minutes(new_notebook(cells=cells)) for cells in ([words], [words, folded], [words, code])]
    assert times == [10, 10, 20] and concept_map.minutes(new_notebook(cells=[words, *figures])) == 25
    assert concept_map.minutes(new_notebook()) == 5
