"""The scoreboard's drawings, position by position; its file; and the anchors that its rows lead to."""

import json
import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from types import SimpleNamespace

import jsonschema
import pytest
from docutils import nodes, utils
from toys import ROOT

from lessons_lib import board
from lessons_lib.claims import Claim, Claims, above, below, between, equal

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
import forest
import scoreboard
from forest import MARGIN, ROOM, WIDTH, Axis

SCHEMA = ROOT / "book" / "webstatic" / "scoreboard.schema.json"


def result(holds, values, **stated):
    stated = {"null": None if "evidence" in stated else 0, **stated}
    return Claim("C1", "It is.", paper="yes", quantity="size", holds=holds, **stated).measure(values)


def shapes(drawn):
    """The elements of a drawing by class, or by tag where there is none."""
    found = {}
    for element in ElementTree.fromstring(forest.drawing(drawn)):
        found.setdefault(element.get("class") or element.tag, []).append(element)
    return found


def at(element):
    """Where a line stands, or from where to where a path or rectangle goes."""
    if element.tag == "rect":
        return float(element.get("x")), float(element.get("x")) + float(element.get("width"))
    start, *rest = (float(x) for x in re.findall(r"[MH]([\d.-]+)", element.get("d")))
    return (start, *rest)


def near(value):
    return pytest.approx(value, abs=0.06)  # the drawings keep one digit


def labels(found):
    return [text.text for name in ("edge", "none") for text in found.get(name, ()) if text.tag == "text"]


def test_a_linear_drawing_keeps_distances():
    drawn = result(above(0.5), [0.84, 0.85, 0.86, 0.85, 0.85], null=0.0)
    axis = Axis(drawn)
    assert axis(0.0) == MARGIN and axis(drawn.high) == WIDTH - MARGIN
    assert axis(0.25) - axis(0) == pytest.approx(axis(0.5) - axis(0.25))
    found = shapes(drawn)
    assert at(found["region"][0]) == near((axis(0.5), WIDTH))  # to the side: it has no other end
    assert at(found["edge"][0]) == near((axis(0.5),))
    assert at(found["null"][0]) == near((MARGIN,))
    assert float(found["circle"][0].get("cx")) == near(axis(drawn.mean))


def test_a_log_drawing_keeps_ratios():
    drawn = result(above(10), [80.0, 90, 100, 110, 125], null=1, log=True)
    axis = Axis(drawn)
    assert axis(1) == MARGIN and axis(drawn.high) == WIDTH - MARGIN
    assert axis(10) - axis(1) == pytest.approx(axis(100) - axis(10))
    assert at(shapes(drawn)["interval"][0]) == near((axis(drawn.low), axis(drawn.high)))


def test_a_region_without_a_lower_end_begins_at_the_side():
    drawn = result(below(1), [0.2, 0.3, 0.4, 0.3, 0.3], null=1)
    assert at(shapes(drawn)["region"][0]) == near((0, WIDTH - MARGIN))


@pytest.mark.parametrize("holds", [between(0.9, 1.1), equal(1, 0.1)])
def test_a_region_with_two_ends_lies_between_its_lines(holds):
    found = shapes(result(holds, [0.99, 1.0, 1.01, 1.0, 1.0], null=1.5))
    (region,), edges = found["region"], [line for line in found["edge"] if line.tag == "path"]
    assert at(region) == near(tuple(x for line in edges for x in at(line)))
    assert labels(found) == ["0.9", "1.1", "1.5"]


def test_an_interval_of_no_width_is_a_mark_alone():
    found = shapes(result(above(0.9), [1.0] * 5, null=0.5))
    assert "interval" not in found
    assert float(found["circle"][0].get("cx")) == near(WIDTH - MARGIN)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.5, 1e20, 5e-324])
def test_where_all_numbers_are_one_it_stands_in_the_middle(value):
    found = shapes(result(equal(value, 0), [value, value], evidence="exact"))
    assert at(found["region"][0]) == (WIDTH / 2, WIDTH / 2)
    assert len([line for line in found["edge"] if line.tag == "path"]) == 1
    (square,) = found["rect"]
    assert sum(at(square)) / 2 == WIDTH / 2


@pytest.mark.parametrize(("holds", "null", "side"), [(above(0.99), 0.1, "left"), (below(1.001), 20, "right")])
def test_a_null_far_off_is_an_arrow_at_its_side(holds, null, side):
    drawn = result(holds, [1.0] * 5, null=null)
    axis, found = Axis(drawn), shapes(drawn)
    assert axis.far == side and "null" not in found and "beyond" in found
    left, right = (ROOM if side == other else MARGIN for other in ("left", "right"))
    assert sorted((axis(1.0), axis(drawn.claim.holds.bounds[0]))) == pytest.approx([left, WIDTH - right])
    assert labels(found) == [str(drawn.claim.holds.bounds[0]), str(null)]


def test_what_a_log_scale_has_no_place_for_lies_beyond_it():
    drawn = result(above(0.5), [1.0, 1.1, 1.2, 1.1, 1.0], null=0, log=True)
    assert Axis(drawn).far == "left"
    drawn = result(above(0), [1.0, 1.1, 1.2, 1.1, 1.0], null=-1, log=True)
    assert at(shapes(drawn)["region"][0]) == (0, WIDTH)


def test_a_drawing_says_in_words_what_it_shows():
    drawn = result(above(0.5), [0.84, 0.85, 0.86, 0.85, 0.85], null=0.02)
    svg = forest.drawing(drawn)
    assert 'role="img"' in svg and "verdict-held" in svg
    assert "<title>0.850 [0.841, 0.859]; holds above 0.5; no effect 0.02</title>" in svg
    exact = result(equal(0, 0), [0, 0], evidence="exact")
    assert forest.sentence(exact) == "0; holds at exactly 0"


@pytest.fixture(scope="module")
def chapters():
    return board.chapters(ROOT)


def test_every_drawing_of_the_book_shows_all_that_decides_its_claim(chapters):
    for drawn in (drawn for chapter in chapters for drawn in chapter.results):
        axis, found = Axis(drawn), shapes(drawn)
        decisive = [drawn.low, drawn.high, *filter(math.isfinite, drawn.claim.holds.edges)]
        if drawn.claim.null is not None and not axis.far:
            decisive.append(drawn.claim.null)
        for value in decisive:
            assert MARGIN - 1e-6 <= axis(value) <= WIDTH - MARGIN + 1e-6, (drawn.claim, value)
        assert ("null" in found) + ("beyond" in found) == (drawn.claim.null is not None)
        texts = [text for name in ("edge", "none") for text in found.get(name, ()) if text.tag == "text"]
        boxes = [(float(text.get("x")), forest.CHARACTER * len(text.text) / 2) for text in texts]
        assert all(abs(x - y) > a + b for (x, a), (y, b) in combinations(boxes, 2)), drawn.claim


def test_the_rows_of_the_file_are_the_records_and_keep_the_schema(chapters):
    rows = json.loads(json.dumps(board.rows(chapters, lambda chapter, claim: f"{chapter.stem}#{claim}")))
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"title": "T", "claims": rows}, schema)
    records = [(chapter, drawn.record()) for chapter in chapters for drawn in chapter.results]
    for row, (chapter, record) in zip(rows, records, strict=True):
        assert (row.pop("chapter"), row.pop("part")) == (chapter.stem, chapter.part)
        assert row.pop("link") == f"{chapter.stem}#{record['id']}"
        assert bool(row.pop("begun", "")) == (row["statement"].startswith("...") and record["id"] != "C1")
        del record["values"]
        larger = {each.name: each.results[record["id"]] for each in chapter.records if record["id"] in each.results}
        assert {each["record"]: each["verdict"] for each in row.pop("recorded", [])} == {
            name: recorded.verdict for name, recorded in larger.items()
        }
        others = {str(each.seed): each.results[record["id"]].verdict for each in chapter.repeats}
        assert row.pop("other_seeds", {}) == (others if record["evidence"] == "measurement" else {})
        assert bool(row.pop("together", {})) == (record["evidence"] == "measurement" and len(others) >= 4)
        assert row == record


def anchors(*markup):
    """The ids that a page of these outputs is given, each with the markup right after it."""
    document = utils.new_document("page")
    document += [nodes.raw("", text, format="html") for text in markup]
    scoreboard.add_anchors(SimpleNamespace(env=SimpleNamespace(note_dependency=lambda path: None)), document)
    return re.findall(r'(<\w+)[^<>]* id="([^"]+)"', "".join(raw.astext() for raw in document.findall(nodes.raw)))


def test_a_claim_is_found_where_it_was_measured_last_or_else_in_the_table_of_verdicts():
    claims = Claims(
        "toy",
        Claim("C1", "It is large.", paper="3", quantity="size", holds=above(1), evidence="exact"),
        Claim("C2", "It is small.", paper="1", quantity="size", holds=below(2), evidence="exact"),
    )
    rules = claims._repr_mimebundle_()["text/html"]
    lines = [claims[name].measure(1.5)._repr_mimebundle_()["text/html"] for name in ("C1", "C1", "C2")]
    verdicts = claims.verdicts()._repr_mimebundle_()["text/html"]
    assert anchors(rules, *lines, verdicts) == [("<p", "claim-C1"), ("<p", "claim-C2")]
    assert anchors(rules, lines[0], verdicts) == [("<p", "claim-C1"), ("<tr", "claim-C2")]
    assert anchors(verdicts, "<p>C1</p>") == [("<tr", "claim-C1"), ("<tr", "claim-C2")]
    assert anchors("<p>C1</p>") == []
