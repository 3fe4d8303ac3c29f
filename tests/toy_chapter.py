"""A small executed chapter for the tests: claims with stored verdicts, mathematics, a figure and a widget."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CLAIMS = """\
from lessons_lib.claims import Claim, Claims, above, below
claims = Claims(
    "{stem}",
    Claim("C1", "The sum $a + b$ is large.", paper="3.1 (Table 1)", quantity="sum", holds=above(1), null=0),
    Claim("C2", "The norm is small.", paper="below 2", quantity="norm", holds=below(2), evidence="exact"),
)
claims["C1"].measure([2.9, 3.0, 3.1, 3.2, 3.3])
claims["C2"].measure(2.5, note="It is not, on this data.")
claims.verdicts()"""

FIGURE = """\
import matplotlib.pyplot as plt
plt.plot([0, 1], [1, 0])
plt.show()"""

WIDGET = """\
from lessons_lib.explore import explore
def draw(depth, data):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.bar([0, 1], [depth, data])
    return figure
def describe(depth, data):
    return f"Depth {depth}, data {data}."
explore(draw, describe=describe, depth=[2, 4, 8], data={"true": 1, "random": 5})"""


def notebook(stem: str):
    """The chapter, not executed."""
    figure = new_code_cell(FIGURE, metadata={"mystnb": {"image": {"alt": "A line that falls from 1 to 0."}}})
    return new_notebook(
        cells=[
            new_markdown_cell("# A toy chapter\n\nThat $a^2 + b^2 = c^2$ is in {cite:t}`zhang2017rethinking`."),
            new_code_cell(CLAIMS.format(stem=stem)),
            new_markdown_cell("## Explore"),
            figure,
            new_code_cell(WIDGET, metadata={"tags": ["nbval-ignore-output"]}),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


def write(toy, path: Path) -> None:
    """Write the chapter to ``path``."""
    nbformat.write(toy, path)


def write_executed(path: Path) -> None:
    """Execute the chapter that is called by the file's stem, and write it to ``path``."""
    toy = notebook(path.stem)
    NotebookClient(toy, timeout=60, kernel_name="python3").execute()
    write(toy, path)
