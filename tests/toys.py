"""A small book with one chapter that keeps every rule, for tests to run, alter and break."""

import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lessons_lib import address

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = address.address(ROOT) if (ROOT / "_config.yml").exists() else "https://github.com/toy-owner/toy-book"

FIGURE = {
    "figure": {"caption": "Five points on a line: each is above the one before.", "name": "toy-line"},
    "image": {"alt": "A line that rises from left to right."},
}

CELLS = [
    "# A toy chapter\n\nA. Author, [a paper](https://arxiv.org/abs/0000.00000).\n\nIt claims little.",
    "## Set-up",
    ("code", address.setup_cell(ADDRESS), {"tags": ["setup"]}),
    (
        "code",
        "from lessons_lib.claims import Claim, Claims, above\nfrom lessons_lib.settings import scale, settings\n\n"
        "import ipywidgets as widgets\nimport matplotlib.pyplot as plt\n\nprint(settings)",
        {"tags": ["nbval-ignore-output"]},
    ),
    ("code", "width = scale(lesson=1, paper=2)  # of the line", {"tags": ["parameters"]}),
    "## Claims",
    (
        "code",
        "claims = Claims(\n    'toy',\n"
        "    Claim('C1', 'It is large.', paper='large', quantity='size', holds=above(1), null=0),\n"
        "    Claim('C2', 'It is 4.', paper='4', quantity='sum', holds=above(3), evidence='exact'),\n"
        ")\nclaims",
        {},
    ),
    "## It is large",
    ("code", "values = [2.0, 2.1, 2.2, 2.1, 2.0]\nclaims['C1'].measure(values)", {}),
    ("code", "claims['C2'].measure(2 + 2)", {}),
    ("code", "plt.plot(values, linewidth=width)\nplt.show()", {"mystnb": FIGURE}),
    "## Explore",
    (
        "code",
        "slider = widgets.IntSlider(max=1, description='frame')\n"
        "stack = widgets.Stack([widgets.HTML('one'), widgets.HTML('two')], selected_index=0)\n"
        "widgets.jslink((slider, 'value'), (stack, 'selected_index'))\nwidgets.VBox([slider, stack])",
        {"tags": ["nbval-ignore-output"]},
    ),
    "## Verdicts",
    ("code", "claims.verdicts()", {}),
    "## What came after\n\nNothing.",
    "## Self-check\n\n**a)** Two?\n\n```{admonition} Answer\n:class: dropdown\nTwo.\n```",
    "## Exercises\n\nAdd two and two.\n\n```{admonition} Solution\n:class: dropdown\nFour.\n```",
    "## Bigger\n\n`python -m lessons_lib run toy --scale paper`",
]


# The claims alone: quicker to execute, for tests that need no picture.
CLAIMS = [
    CELLS[0],
    ("code", "from lessons_lib.claims import Claim, Claims, above", {}),
    *(cell for cell in CELLS if "claims" in cell[1] and "import" not in cell[1]),
]


# What a page has to show: mathematics, a citation, verdicts of both kinds, a picture, and figures to explore.
PAGE = [
    "# A toy chapter\n\nThat $a^2 + b^2 = c^2$ is in {cite:t}`zhang2017rethinking`.",
    (
        "code",
        """\
from lessons_lib.claims import Claim, Claims, above, below
claims = Claims(
    "toy",
    Claim("C1", "The sum $a + b$ is large.", paper="3.1 (Table 1)", quantity="sum", holds=above(1), null=0),
    Claim("C2", "The norm is small.", paper="below 2", quantity="norm", holds=below(2), evidence="exact"),
)
claims["C1"].measure([2.9, 3.0, 3.1, 3.2, 3.3])
claims["C2"].measure(2.5, note="It is not, on this data.")
claims.verdicts()""",
        {},
    ),
    "## Explore",
    (
        "code",
        "import matplotlib.pyplot as plt\nplt.plot([0, 1], [1, 0])\nplt.show()",
        {"mystnb": {"image": {"alt": "A line that falls from 1 to 0."}}},
    ),
    (
        "code",
        """\
from lessons_lib.explore import explore
def draw(depth, data):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.bar([0, 1], [depth, data])
    return figure
def describe(depth, data):
    return f"Depth {depth}, data {data}."
explore(draw, describe=describe, depth=[2, 4, 8], data={"true": 1, "random": 5})""",
        {"tags": ["nbval-ignore-output"]},
    ),
]


def notebook(cells=CELLS):
    """The chapter as its author leaves it, not executed."""
    made = [
        new_markdown_cell(cell) if isinstance(cell, str) else new_code_cell(cell[1], metadata=cell[2]) for cell in cells
    ]
    return new_notebook(cells=made)


def make_book(folder: Path, **chapters) -> Path:
    """A book of one part under ``folder``: chapters (default: toy), and the project's test configuration."""
    chapters = chapters or {"toy": notebook()}
    part = folder / "book" / "w1-toys"
    part.mkdir(parents=True)
    for name, made in chapters.items():
        nbformat.write(made, part / f"{name}.ipynb")
    (folder / "_config.yml").write_text(f"title: Toys\nrepository:\n  url: {ADDRESS}\n")
    entries = "".join(f"      - file: book/w1-toys/{name}\n" for name in chapters)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nparts:\n  - chapters:\n{entries}")
    rows = "".join(f"    - {{paper: P, venue: V, url: U, chapter: {name}}}\n" for name in chapters)
    (folder / "book" / "course.yml").write_text(f"- key: w1-toys\n  title: Toys\n  rows:\n{rows}")
    (folder / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml", "tests/nbval.cfg"):
        shutil.copy(ROOT / name, folder / name)
    return folder
