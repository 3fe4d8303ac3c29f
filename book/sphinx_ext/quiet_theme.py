"""Mends what Jupyter Book's theme gets wrong on every page: a script error, and buttons without a name.

sphinx-thebe is part of every Jupyter Book and adds its set-up script twice to each page, which is an error in
the console, and an address outside the site. The book has no use for it, so it is disconnected.
"""

from __future__ import annotations

import re


def _disconnect_thebe(app) -> None:
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def setup(app) -> dict:
    """Take sphinx-thebe out; its own set-up ran before this one."""
    _disconnect_thebe(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
