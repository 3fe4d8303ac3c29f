"""Links the first mention of each glossary term in a chapter to the glossary, so that no chapter has to."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

PAGE = "book/glossary"
ORDINARY = {"claim", "interval", "null", "seed", "verdict"}  # words that mostly mean what they mean anywhere


def terms(source: str) -> dict[str, str]:
    """The phrases to look for, in lower case, and the term of the glossary that explains each."""
    (body,) = re.findall(r"^:::\{glossary\}\n(.*?)^:::", source, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^(\S.*)\n(?= )", body, re.MULTILINE)
    return {phrase.lower(): term for term in found for phrase in term.split(", ") if phrase.lower() not in ORDINARY}


def pattern(phrases: dict[str, str]) -> re.Pattern:
    """Any of the phrases as whole words, also in the plural; the longest that fits."""
    longest_first = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({longest_first})s?(?![\w-])", re.IGNORECASE)


def link(paragraphs, phrases: dict[str, str], docname: str) -> list[str]:
    """Link the first mention of each term in the paragraphs' own text; the terms that were found, in order."""
    search, linked = pattern(phrases), []
    for text in [child for paragraph in paragraphs for child in paragraph.children if isinstance(child, nodes.Text)]:
        pieces, end = [], 0
        for match in search.finditer(text.astext()):
            term = phrases[match[1].lower()]
            if term not in linked:
                linked.append(term)
                pieces += [nodes.Text(text[end : match.start()]), _reference(match[0], term, docname)]
                end = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])
    return linked


def _reference(words: str, term: str, docname: str) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "", nodes.inline("", words, classes=["glossary-term"]),
        refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=docname,
    )  # fmt: skip


class GlossaryLinks(SphinxTransform):
    """Does so in every chapter, in paragraphs that are no caption and stand in no table."""

    default_priority = 700

    def apply(self, **kwargs) -> None:
        """Link them."""
        path = Path(self.env.srcdir, f"{PAGE}.md")
        if not self.env.doc2path(self.env.docname).endswith(".ipynb") or not path.is_file():
            return
        self.env.note_dependency(str(path))
        outside = (nodes.figure, nodes.table, nodes.reference)
        paragraphs = [
            paragraph
            for paragraph in self.document.findall(nodes.paragraph)
            if not any(isinstance(node, outside) for node in _above(paragraph))
        ]
        link(paragraphs, terms(path.read_text(encoding="utf-8")), self.env.docname)


def _above(node: nodes.Node):
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app) -> dict:
    """Register the transform."""
    app.add_transform(GlossaryLinks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
