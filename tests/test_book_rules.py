"""Every chapter keeps every rule, and every rule can be broken."""

import re

import book_rules
import pytest
import toys
from book_rules import RULES
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from lessons_lib import notebooks
from lessons_lib.claims import RECORD_TYPE

CHAPTERS = {chapter.name: chapter for chapter in notebooks.chapters(toys.ROOT)}


@pytest.fixture(scope="module")
def read():
    """Reads a chapter once, whatever the number of rules."""
    known = {}
    return lambda name: known.setdefault(name, notebooks.read(CHAPTERS[name].path))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_keeps(name, rule, read):
    faults = list(rule(read(name), name))
    assert not faults, f"{name}: " + "; ".join(faults)


def test_every_notebook_is_a_chapter():
    """One that the table of contents lacks would be neither shown, nor checked, nor stored."""
    book = (toys.ROOT / "book").rglob("*.ipynb")
    found = {path.stem for path in book if ".ipynb_checkpoints" not in path.parts}
    assert found == set(CHAPTERS) != set()


# ---------------------------------------------------------------------------- each rule, broken on purpose


def cell(notebook, start):
    """The one cell whose source starts so."""
    (found,) = [cell for cell in notebook.cells if cell.source.startswith(start)]
    return found


def verdicts(notebook):
    return cell(notebook, "claims.verdicts()").outputs[0].data


def claim(notebook):
    return verdicts(notebook)[RECORD_TYPE]["claims"][0]


def output_text(text):
    def breakage(notebook):
        cell(notebook, "from lessons_lib.claims").outputs[0].text = text

    return breakage


def heading_gone(notebook):
    cell(notebook, "## What came after").source = "What came after"


def heading_only_in_a_fence(notebook):
    cell(notebook, "## What came after").source = "```\n## What came after\n```"


def headings_swapped(notebook):
    cells = notebook.cells
    explore, verdict = cells.index(cell(notebook, "## Explore")), cells.index(cell(notebook, "## Verdicts"))
    cells[explore], cells[verdict] = cells[verdict], cells[explore]


def second_run(notebook):
    cell(notebook, "claims.verdicts()").execution_count += 1


def never_run(notebook):
    for each in book_rules.code_cells(notebook):
        each.execution_count, each.outputs = None, []


def error_kept(notebook):
    cell(notebook, "plt.plot").outputs.append(new_output("error", ename="ValueError"))


def figure_lacks(*keys):
    def breakage(notebook):
        *way, last = keys
        node = cell(notebook, "plt.plot").metadata.mystnb
        for key in way:
            node = node[key]
        del node[last]

    return breakage


def verdict_moved(notebook):
    notebook.cells.append(cell(notebook, "claims.verdicts()"))


BREAKAGES = [
    ("executed_in_order", never_run),
    ("executed_in_order", second_run),
    ("executed_in_order", error_kept),
    ("has_widgets_with_state", lambda n: n.metadata.pop("widgets")),
    ("has_widgets_with_state", lambda n: cell(n, "slider =").outputs.clear()),
    ("sets_up_first", lambda n: n.cells.insert(1, new_code_cell("1 + 1"))),
    ("sets_up_first", lambda n: cell(n, "try:").update(source=book_rules.SETUP_CELL + "\nimport numpy")),
    ("sets_up_first", lambda n: cell(n, "try:").metadata.pop("tags")),
    ("imports_the_library_first", lambda n: n.cells.insert(3, new_code_cell("%time\nimport torch.nn as nn"))),
    ("imports_the_library_first", lambda n: n.cells.insert(3, new_code_cell("from numpy import pi"))),
    ("keeps_its_sizes_in_one_cell", lambda n: cell(n, "width =").metadata.pop("tags")),
    ("keeps_its_sizes_in_one_cell", lambda n: cell(n, "plt.plot").metadata.update(tags=["parameters"])),
    ("keeps_its_sizes_in_one_cell", lambda n: cell(n, "width =").update(source="width = 1\nprint(width)")),
    ("keeps_its_sizes_in_one_cell", lambda n: cell(n, "width =").update(source="width, height = 1, 2")),
    ("keeps_its_sizes_in_one_cell", lambda n: cell(n, "width =").update(source="width = 1\nheight = 2 * width")),
    ("sets_what_it_has", lambda n: n.cells.append(new_markdown_cell("    run toy --set width=2 --set 'wide=[1]'"))),
    ("has_every_part", heading_gone),
    ("has_every_part", heading_only_in_a_fence),
    ("has_every_part", headings_swapped),
    ("has_every_part", lambda n: cell(n, "## It is large").update(source="It is large")),
    ("has_every_part", lambda n: n.cells[0].update(source="No title")),
    ("has_every_part", lambda n: n.cells[0].update(source="# Title\n\nNo paper")),
    ("has_every_part", lambda n: cell(n, "## Exercises").update(source="## Exercises\n\nUnsolved")),
    ("has_every_part", lambda n: cell(n, "## Self-check").update(source="## Self-check\n\nUnanswered")),
    ("states_claims_before_results", lambda n: cell(n, "claims = ").outputs.clear()),
    ("states_claims_before_results", lambda n: cell(n, "claims.verdicts()").outputs.clear()),
    ("states_claims_before_results", verdict_moved),
    ("verdicts_follow_from_values", lambda n: claim(n).update(verdict="failed")),
    ("verdicts_follow_from_values", lambda n: claim(n).update(values=[0.0, 0.1, 0.0, 0.1, 0.0])),
    ("verdicts_follow_from_values", lambda n: verdicts(n).update({"text/plain": "C1 failed\nC2 held"})),
    ("verdicts_follow_from_values", lambda n: verdicts(n).update({"text/html": "C1 ✓ held"})),
    ("verdicts_follow_from_values", lambda n: verdicts(n)[RECORD_TYPE].update(seed=1)),
    ("verdicts_follow_from_values", lambda n: verdicts(n)[RECORD_TYPE].update(scale="paper")),
    ("verdicts_follow_from_values", lambda n: verdicts(n)[RECORD_TYPE].update(chapter="other")),
    ("lets_verdicts_be_compared", lambda n: cell(n, "claims.verdicts()").metadata.update(tags=["nbval-skip"])),
    (
        "lets_verdicts_be_compared",
        lambda n: cell(n, "claims.verdicts()").metadata.update(tags=["nbval-ignore-output"]),
    ),
    (
        "lets_verdicts_be_compared",
        lambda n: cell(n, "values =").update(source="# NBVAL_IGNORE_OUTPUT\nclaims['C1'].measure(values)"),
    ),
    ("measures_over_seeds", lambda n: claim(n).update(values=[2.0] * 4)),
    ("measures_over_seeds", lambda n: claim(n).update(n=4)),
    ("describes_figures", lambda n: cell(n, "plt.plot").metadata.pop("mystnb")),
    ("describes_figures", figure_lacks("image", "alt")),
    ("describes_figures", figure_lacks("figure", "caption")),
    ("describes_figures", figure_lacks("figure", "name")),
    ("describes_figures", lambda n: cell(n, "plt.plot").outputs[0].data.update({"image/svg+xml": "<svg/>"})),
    ("fits_a_screen", lambda n: cell(n, "plt.plot").update(source="1\n" * (book_rules.CODE_LINES + 1))),
    ("fits_a_screen", lambda n: cell(n, "plt.plot").update(source="1 + " * book_rules.CODE_COLUMNS + "1")),
    ("fits_a_screen", lambda n: n.cells.append(new_markdown_cell("long " * 700))),
    ("names_no_machine", output_text("saved to /home/ann/book/x.png")),
    ("names_no_machine", output_text("/tmp/ipykernel_77/1.py:2: UserWarning")),
    ("names_no_machine", lambda n: cell(n, "plt.plot").update(source=r"open('C:\Users\ann\x')")),
    ("names_no_machine", lambda n: n.cells[0].update(source="see file:///root/notes.md")),
    ("fetches_nothing", lambda n: n.cells[0].update(source="![logo](https://example.org/logo.png)")),
    ("fetches_nothing", lambda n: verdicts(n).update({"text/html": '<script async src="//cdn.org/x.js">'})),
    ("fetches_nothing", lambda n: n.cells[0].update(source='<iframe title="x" src="https://example.org">')),
    ("has_no_todo", lambda n: cell(n, "## What came after").update(source="## What came after\n\nTODO: replications")),
    ("has_no_todo", lambda n: cell(n, "width =").update(source="width = 1  # TODO")),
    ("has_no_todo", lambda n: cell(n, "plt.plot").metadata.mystnb.image.update(alt="TODO: what is drawn")),
    ("is_small", lambda n: n.cells.extend(new_markdown_cell("x" * 100_000) for _ in range(15))),
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    book = toys.make_book(tmp_path_factory.mktemp("book"))
    return notebooks.store(notebooks.find("toy", book), book=book).notebook


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_chapter_passes(toy, rule):
    assert list(rule(notebooks.normalize(toy), "toy")) == []


@pytest.mark.parametrize("name, breakage", BREAKAGES)
def test_a_broken_chapter_fails(toy, name, breakage):
    broken = notebooks.normalize(toy)
    breakage(broken)
    assert list(getattr(book_rules, name)(broken, "toy"))


def test_every_rule_has_been_broken():
    assert {name for name, _ in BREAKAGES} == {rule.__name__ for rule in RULES}


def test_links_and_words_that_only_look_like_paths_pass():
    text = "[home](https://example.org/home/ann) <a href='https://x.org/work/1'>work</a> and/or/work/life, and C:\\mu"
    notebook = toys.notebook([text])
    assert list(book_rules.names_no_machine(notebook, "toy")) == []
    assert list(book_rules.fetches_nothing(notebook, "toy")) == []


@pytest.mark.parametrize("name", ["course.yml", "map.yml", "references.bib"])
def test_nothing_is_left_to_do_beside_the_chapters(name):
    """What ``python -m lessons_lib new`` marks in the files that it adds a chapter to."""
    assert not re.findall(r".*\bTODO\b.*", (toys.ROOT / "book" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_front_door_points_at_what_is_there(name):
    text = (toys.ROOT / name).read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    paths = re.findall(r"`((?:book|lessons_lib|tests|benchmarks|tools)/[\w./-]*)`", text)
    placeholders = {"book/PART/NAME.ipynb"}
    assert paths
    assert [path for path in {*links, *paths} - placeholders if not (toys.ROOT / path).exists()] == []
