"""Takes sphinx-thebe out of the pages: its set-up script is on each of them twice, an error in the console.

It is part of every Jupyter Book, runs cells on a server elsewhere, and the book has no use for it.
"""

from __future__ import annotations


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
