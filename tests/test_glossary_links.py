"""Links to the glossary: the first mention of a term, whole words only, and in the chapters of the book."""

import re
import sys

from docutils import nodes
from sites import ROOT

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
import glossary_links

SOURCE = (ROOT / "book" / "glossary.md").read_text()


def test_the_terms_are_the_glossarys():
    found = glossary_links.terms(SOURCE)
    assert found["batch norm"] == "Batch norm"
    assert found["paper scale"] == found["lesson scale"] == "Lesson scale, paper scale"
    assert "claim" not in found
    assert len(found) > 20


def test_the_first_mention_of_a_term_is_linked_and_no_other_word():
    phrases = {"hessian": "Hessian", "batch norm": "Batch norm"}
    first = nodes.paragraph("", "", nodes.Text("Hessian-free is not it; Hessians are, and the Hessian again."))
    first += nodes.emphasis("", "batch norm")
    second = nodes.paragraph("", "", nodes.Text("The Hessian, batch norms."))
    assert glossary_links.link([first, second], phrases, "book/toy") == ["Hessian", "Batch norm"]
    assert first.astext() == "Hessian-free is not it; Hessians are, and the Hessian again.batch norm"
    links = [(node.astext(), node["reftarget"]) for each in (first, second) for node in each.findall(nodes.Element)
             if node.tagname == "pending_xref"]  # fmt: skip
    assert links == [("Hessians", "Hessian"), ("batch norms", "Batch norm")]


def test_chapters_link_to_the_glossary_once_a_term(site):
    page = (site.html / "book" / "w4-foundations" / "sharp-minima-generalize.html").read_text()
    links = re.findall(r'href="[./]*glossary\.html#(term-[\w-]+)"', page)
    assert "term-Hessian" in links and "term-Sharpness" in links
    assert len(set(links)) == len(links)
