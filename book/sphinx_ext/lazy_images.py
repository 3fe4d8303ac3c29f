"""Pictures are fetched when the reader comes near them: a page is read from its top, and few are read to the end."""

from __future__ import annotations

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class LazyImages(SphinxPostTransform):
    """Marks every picture of a page so (HTML's ``loading`` attribute)."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs) -> None:
        """Mark them."""
        for image in self.document.findall(nodes.image):
            image["loading"] = "lazy"


def setup(app) -> dict:
    """Register the transform."""
    app.add_post_transform(LazyImages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
