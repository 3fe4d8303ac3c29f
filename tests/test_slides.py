"""The slides: the rule that chooses them, MyST made plain, and a deck in a real browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sites import Page

from lessons_lib import board
from lessons_lib.claims import Claim, Claims, above

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))

import slides  # noqa: E402

REFERENCES = slides.References(
    part="w3-foundations",
    chapters={"large-batch": ("On Large Batches", "w3-foundations"), "later": ("To Come", "")},
    papers={"one": ("Ada", "2001"), "two": ("Bo and Cy", "2002"), "many": ("Dee et al.", "2003")},
)
STATE = {
    "box": {"state": {"_model_name": "VBoxModel", "children": ["IPY_MODEL_dial", "IPY_MODEL_stack"]}},
    "dial": {"state": {"_model_name": "SelectionSliderModel", "index": 1}},
    "stack": {
        "state": {
            "_model_name": "StackModel",
            "selected_index": 1,
            "children": ["IPY_MODEL_left", "IPY_MODEL_shown"],
        }
    },
    "left": {"state": {"value": "<figure>left</figure>"}},
    "shown": {"state": {"value": '<figure class="explore-frame"><img alt="A frame." src="data:,"></figure>'}},
}


def shows(source, *bundles, **metadata):
    """A code cell with these outputs stored."""
    outputs = [new_output("display_data", data) for data in bundles]
    return new_code_cell(source, outputs=outputs, metadata=metadata)


def claim(n):
    return Claim(f"C{n}", f"It is ${n}$.", paper="some", quantity="size", holds=above(0), null=-1)


def chapter():
    """A chapter of every kind of part, with ten claims."""
    claims = Claims("toy", *map(claim, range(10)))
    for n in range(10):
        claims[f"C{n}"].measure([1, 2, 3, 2, 1])
    bundle = {each.id: each.result._repr_mimebundle_() for each in claims}
    image = {"figure": {"caption": "It rises {cite:p}`one`."}, "image": {"alt": "A < B."}}
    cells = [
        new_markdown_cell("# Toys\n\n```{admonition} The paper\nBy **A**.\n\nLong ago.\n```\n\nFirst.\n\nSecond."),
        new_markdown_cell("## Set-up\n\nDull."),
        new_code_cell("import secret"),
        new_markdown_cell("## Claims\n\nWhat is written."),
        shows("claims", claims._repr_mimebundle_()),
        new_markdown_cell("## It is so\n\nLet it be:\n\n$$ x = 1 $$\n\nThen told. **Predict first:** is it?\n\nMore."),
        shows("plt.show()", {"image/png": "iVBOR"}, mystnb=image),
        new_markdown_cell("### Below"),
        shows("plt.show()", {"image/png": "iVBOR"}, mystnb={"image": {"alt": "B."}}),
        shows("claims['C1'].measure(1)", bundle["C1"]),
        new_markdown_cell("And so it was."),
        new_markdown_cell("## Explore\n\nMove it."),
        shows("explore()", {slides.WIDGET_VIEW: {"model_id": "box"}}, {"text/html": "<details></details>"}),
        new_markdown_cell("## Verdicts"),
        shows("claims.verdicts()", claims.verdicts()._repr_mimebundle_()),
        new_markdown_cell("## What came after\n\n- **One.** " + "word " * 120 + "\n- **Two.** " + "word " * 120),
        new_markdown_cell("## Exercises\n\nHard."),
    ]
    return new_notebook(cells=cells, metadata={"widgets": {slides.WIDGET_STATE: {"state": STATE}}})


def chosen(notebook):
    return slides.choose([part for cell in notebook.cells for part in slides.blocks(cell, STATE)])


def test_the_rule_follows_the_frame_of_a_chapter():
    found = chosen(chapter())
    assert [(slide.title, slide.beside) for slide in found] == [
        ("Toys", ""),
        ("Claims", "1 of 2"),
        ("Claims", "2 of 2"),
        ("It is so", ""),
        ("It is so", ""),
        ("Below", ""),
        ("It is so", "what came out"),
        ("Explore", ""),
        ("Verdicts", "1 of 2"),
        ("Verdicts", "2 of 2"),
        ("What came after", "1 of 2"),
        ("What came after", "2 of 2"),
    ]
    title, claims, _, lead, figure, below, results, explore, *_ = found
    assert title.source.startswith("# Toys\n\n```{admonition} The paper")
    assert title.shown[1:] == ["First."] and title.notes == ["Second."]
    assert claims.shown[0].count('scope="row"') == 5 and claims.notes == ["What is written."]
    assert lead.shown[:2] == ["Let it be:", "$$ x = 1 $$"] and "**Predict first:** is it?" in lead.shown[2]
    assert lead.notes == ["Then told. ", "More."]
    assert "<img" in figure.shown[0] and "<img" in below.shown[0]
    assert "It is $1$." in results.shown[0] and "✓" in results.shown[0] and results.notes == ["And so it was."]
    assert explore.shown == ["Move it.", STATE["shown"]["state"]["value"]]
    assert [slide.title for slide in found if slide.opens] == list(dict.fromkeys(
        slide.title for slide in found if slide.title != "Below"
    ))  # fmt: skip


def test_every_row_of_a_long_table_is_on_one_slide_and_the_parts_are_even():
    pages = [slide.shown[0] for slide in chosen(chapter()) if slide.title == "Verdicts"]
    assert [re.findall(r'scope="row"[^>]*>(C\d)', page) for page in pages] == [
        [f"C{n}" for n in range(5)],
        [f"C{n}" for n in range(5, 10)],
    ]
    assert all(page.startswith("<table") and page.endswith("</table>") for page in pages)
    assert [len(page) for page in slides._evenly(["row"] * 17, 8)] == [6, 6, 5]
    assert slides._evenly([], 8) == []


def test_a_deck_has_notes_and_pictures_with_their_words_and_no_code():
    made = slides.deck(chapter(), REFERENCES, "../book/w3-foundations/toy.html")
    page = slides.page(made)
    assert "<title>Toys: slides</title>" in page and '<html lang="en">' in page
    assert 'alt="A &lt; B."' in page and "It rises (Ada, 2001)." in page
    assert re.search(r'<aside class="notes">\s*<p>Second.</p>', page)
    assert "secret" not in page and "measure(" not in page and "Hard." not in page and "Dull." not in page
    assert 'href="../book/w3-foundations/toy.html#explore"' in page
    assert not re.findall(r'(?:src|href)="https?://', page)
    assert page.count("<section") == page.count("</section") == 12 + 6  # slides, and columns of them


def test_what_a_chapter_says_of_its_own_cells_goes_before_the_rule():
    notebook = chapter()
    for cell in notebook.cells:
        cell.metadata["slideshow"] = {"slide_type": "skip"}
    for at, kind in ((0, "slide"), (5, "slide"), (6, "fragment"), (15, "notes")):
        notebook.cells[at].metadata["slideshow"] = {"slide_type": kind}
    made = slides.deck(notebook, REFERENCES, "toy.html")
    assert [cell.metadata.slideshow.slide_type for cell in made.cells if cell.metadata.slideshow.slide_type != "skip"] \
        == ["slide", "slide", "fragment", "notes"]  # fmt: skip
    page = slides.page(made)
    assert "Second." in page and "More." in page  # nothing is told that was to be shown
    assert "explore-frame" not in page and 'class="fragment"' in page
    assert re.search(r'<aside class="notes">\s*<h2>What came after', page)


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("{cite:t}`one` said", "Ada (2001) said"),
        ("so {cite:p}`two,many`.", "so (Bo and Cy, 2002; Dee et al., 2003)."),
        ("see {chapter}`large-batch`", "see [On Large Batches](../book/w3-foundations/large-batch.html)"),
        ("see {chapter}`later`", "see *To Come*"),
        ("in {numref}`fig-one` and {numref}`Figure <fig-two>`", "in the figure and Figure"),
        ("{doc}`the errata <../errata>`", "the errata"),
        ("[errata](../errata), [map](index.md#map)", "[errata](../book/errata.html), "
         "[map](../book/w3-foundations/index.html#map)"),
        ("[out](https://a.org), [here](#there)", "[out](https://a.org), [here](#there)"),
        ("$\\{a\\}$ and `{1}`", "$\\{a\\}$ and `{1}`"),
    ],
)  # fmt: skip
def test_myst_becomes_plain(myst, plain):
    assert REFERENCES.plain(myst) == plain


def test_a_directive_becomes_a_box_without_its_options():
    text = REFERENCES.plain("```{admonition} Solution\n:class: dropdown\nIt is $4$.\n\n{cite:t}`one`.\n```\n\nAfter.")
    assert text == (
        '<div class="admonition">\n<p class="admonition-title">Solution</p>\n\n'
        "It is $4$.\n\nAda (2001).\n\n</div>\n\nAfter."
    )


def test_papers_are_cited_by_author_and_year():
    found = slides.papers(ROOT / "book" / "references.bib")
    assert found["keskar2017large"] == ("Keskar et al.", "2017")
    assert found["liang2017why"] == ("Liang and Srikant", "2017")
    assert found["ravanbakhsh2017equivariance"][0] == "Ravanbakhsh et al."


# --------------------------------------------------------------------------------------- the site's decks


def decks(site) -> list[Path]:
    return sorted((site.html / "slides").glob("*.html"))


def test_every_chapter_has_a_deck_and_every_week_links_it(site):
    stems = {chapter.stem: chapter.part for chapter in board.chapters(site.source)}
    assert {path.stem for path in decks(site)} == stems.keys()
    for part in board.course(site.source):
        links = site.page(f"book/{part['key']}/index").all("a", key="href")
        for row in part["rows"]:
            if row["chapter"] in stems and not row.get("slides"):
                assert f"../../slides/{row['chapter']}.html" in links


def test_decks_are_whole_as_files(site):
    for path in decks(site):
        deck = Page.read(path)
        assert re.search(r"<title>\S.*: slides</title>", path.read_text()), path.name
        assert not re.search(r"\{[\w:]+\}`|```", deck.text), path.name
        for tag, attributes in deck.elements:
            assert tag != "img" or attributes.get("alt"), f"{path.name}: a picture without words"
            link = attributes.get("href", attributes.get("src", ""))
            if link.startswith("../"):
                assert (path.parent / re.split("[#?]", link)[0]).resolve().exists(), f"{path.name}: {link}"
            assert tag == "a" or not link.startswith("http"), f"{path.name}: {link}"


@pytest.mark.parametrize("name", ["toy", "large-batch"])
def test_a_deck_opens_turns_and_fits_and_asks_nobody_else(visit, name):
    page = visit(f"slides/{name}.html")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_selector(".reveal.ready")
    assert page.locator("mjx-container").count() and page.locator("mjx-merror").count() == 0
    seen = []
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        assert page.evaluate("Reveal.getSlidePastCount()") == number
        slide = page.locator("section.present:not(.stack)")
        seen.append(slide.inner_text())
        assert all(image.get_attribute("alt") for image in slide.locator("img").all())
        over = slide.evaluate("e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth]")
        assert max(over) <= 0, f"slide {number + 1} runs over"
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) > 2 and "{cite" not in "".join(seen) and "$" not in "".join(seen)
    assert not visit.wrong
