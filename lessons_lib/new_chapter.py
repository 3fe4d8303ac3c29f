"""A new chapter to start from: a skeleton that runs and keeps the book's rules, but for what it marks TODO."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from itertools import count
from pathlib import Path

import yaml

from lessons_lib import address, board
from lessons_lib.notebooks import BookError, _entries, normalize, root

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
# Year, month and number. Before April 2007: a subject, and all in seven digits; until 2014 four for the number.
_ARXIV = re.compile(
    r"(?:0[7-9]|1[0-4])(?:0[1-9]|1[0-2])\.\d{4}|(?:1[5-9]|[2-9]\d)(?:0[1-9]|1[0-2])\.\d{5}"
    r"|[a-z]+(?:-[a-z]+)?(?:\.[A-Z]{2})?/(?:9\d|0[0-7])(?:0[1-9]|1[0-2])\d{3}"
)
_TITLE = re.compile(r"[^\s{}\\][^\n\r{}\\]*")  # braces and backslashes mean something to BibTeX


def add(name: str, arxiv: str, part: str = "notes", title: str | None = None, *, book: Path | None = None) -> Path:
    """Add a skeleton chapter called ``name``, on the paper with this arXiv ID, at the end of ``part``.

    Writes the notebook, which is returned, and adds to course.yml, _toc.yml, references.bib (unless the paper is
    there) and, where the book has one, map.yml. Nothing is fetched: what only the paper can say is marked TODO, its
    ``title`` too where none is given. ``book`` is the repository's folder, by default ``notebooks.root()``.

    Raises BookError, and leaves every file as it was, for a name, ID or title of another form, a name that is taken,
    an unknown part, a file that cannot be read or written, or one of a layout that lines cannot be added to.
    """
    book = book or root()
    if not _NAME.fullmatch(name):
        raise BookError(
            f"{name!r} is no chapter's name: it must be lower-case words joined by hyphens, as in sharp-minima."
        )
    if not _ARXIV.fullmatch(arxiv):
        raise BookError(
            f"{arxiv!r} is no arXiv ID: it must look like 1703.04933, without a version, or for old papers cs/0309136."
        )
    if title is not None and not _TITLE.fullmatch(title):
        raise BookError(f"{title!r} is no title: it must be one line, without braces and backslashes.")
    try:
        notebook = book / "book" / part / f"{name}.ipynb"
        _write_all(_planned(book, notebook, arxiv, title or f"TODO: title of {name}"))
    except (OSError, yaml.YAMLError) as error:
        raise BookError(f"{error}. Nothing was changed.") from None
    return notebook


def _planned(book: Path, notebook: Path, arxiv: str, title: str) -> dict[Path, str]:
    """Every file to write, and its text."""
    import nbformat

    name, key, folder = notebook.stem, notebook.parent.name, book / "book"
    parts = {part["key"]: part for part in board.course(book)}
    if key not in parts:
        close = difflib.get_close_matches(key, parts, n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise BookError(f"There is no part {key!r}.{guess} The parts in book/course.yml are: {', '.join(parts)}.")
    if any(row["chapter"] == name for part in parts.values() for row in part["rows"]):
        raise BookError(f"The name {name!r} is taken: book/course.yml has a row for it.")
    if there := [path for path in sorted(folder.rglob(f"{name}.*")) if path.suffix in (".ipynb", ".md")]:
        raise BookError(f"The name {name!r} is taken: there is {there[0].relative_to(book).as_posix()}.")

    part, link = parts[key], f"https://arxiv.org/abs/{arxiv}"
    references, cite = _references(folder / "references.bib", name, arxiv, title, link)
    texts = {
        folder / "course.yml": _course(folder / "course.yml", part, name, title, link, cite),
        book / "_toc.yml": _contents(book / "_toc.yml", key, name),
        folder / "references.bib": references,
        notebook: nbformat.writes(normalize(_notebook(book, part, name, arxiv, title, link, cite))) + "\n",
    }
    if (folder / "map.yml").is_file():  # the tests ask for a place there
        texts[folder / "map.yml"] = _map(folder / "map.yml", name, part["rows"][-1]["chapter"])
    return texts


def _write_all(texts: dict[Path, str]):
    """Write every text to its file, or, whatever stops that, none."""
    staged = {path: path.with_name(f".{path.name}.part") for path in texts}
    before = {path: path.read_bytes() if path.is_file() else None for path in texts}
    replaced = []
    try:
        for path, text in texts.items():
            staged[path].write_text(text, encoding="utf-8")
        for path in texts:
            replaced.append(path)
            staged[path].replace(path)
    except BaseException:
        for path in replaced:
            if before[path] is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before[path])
        raise
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------- the files beside the notebook
# Lines are added to the text, for a YAML library would lose comments and reformat the rest. What then comes out is
# parsed and compared with what it should be, so a layout that these functions do not know is refused, not damaged.


def _course(path: Path, part: dict, name: str, title: str, link: str, cite: str) -> str:
    from_notes = "asks" in part["rows"][0]
    row = {
        "presenter": "TODO",
        "paper": title,
        "venue": "TODO",
        "url": link,
        "chapter": name,
        "question": "TODO: what the chapter asks?",
        "cite": [cite],
        "asks": "TODO: what the reading notes ask?",
    }
    del row["presenter" if from_notes else "asks"]
    lines = path.read_text(encoding="utf-8").splitlines()
    plain = {"url", "chapter"}  # as the other rows write them; JSON's strings are YAML's too
    written = [f"{field}: {value if field in plain else _quoted(value)}" for field, value in row.items()]
    added = [f"    {'- ' if index == 0 else '  '}{line}" for index, line in enumerate(written)]
    expected = yaml.safe_load("\n".join(lines))
    next(each for each in expected if each["key"] == part["key"])["rows"].append(row)
    return _with(lines, _find(lines, rf"- key: [\"']?{part['key']}[\"']?"), added, path, expected)


def _contents(path: Path, key: str, name: str) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    start = _find(lines, rf" *- file: book/{key}/\S+")
    if start is None:
        raise BookError(f"_toc.yml has no line for book/{key}/index: add that first.")
    own = " " * _indent(lines[start])
    entry = f"book/{key}/{name}"
    if lines[start].split("#")[0].rstrip().endswith("/index"):
        added = [f"{own}  sections:", f"{own}    - file: {entry}"]
    else:
        added = [f"{own}- file: {entry}"]
    before = _entries(yaml.safe_load("\n".join(lines)))
    last = max(index for index, known in enumerate(before) if known.startswith(f"book/{key}/"))
    return _with(lines, start, added, path, [*before[: last + 1], entry, *before[last + 1 :]], _entries)


def _map(path: Path, name: str, other: str) -> str:
    """map.yml with a place and one relation, to ``other``, for the chapter."""
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = yaml.safe_load("\n".join(lines))
    taken = [entry["at"] for entry in expected["chapters"].values()]
    rows = 1 + max((row for _, row in taken), default=0)
    entry = {
        "at": next([column, row] for column in count() for row in range(rows) if [column, row] not in taken),
        "name": "/".join(textwrap.wrap(name.replace("-", " ").capitalize(), 17)),
        "assumes": "TODO: what a reader has to know",
    }
    relation = [name, "shares a question with", other, "TODO: which? Or another relation, to another chapter."]

    fields = ", ".join(f"{field}: {_quoted(value)}" for field, value in entry.items())
    expected["chapters"][name] = entry
    added = [f"  {name}:", f"    {{{fields}}}"]
    lines = _with(lines, _find(lines, "chapters:"), added, path, expected).splitlines()
    expected["relations"].append(relation)
    added = [f"  - [{', '.join(relation[:3])}, {_quoted(relation[3])}]"]
    return _with(lines, _find(lines, "relations:"), added, path, expected)


def _references(path: Path, name: str, arxiv: str, title: str, link: str) -> tuple[str, str]:
    """The bibliography with the paper in it, and the key to cite it by."""
    text = path.read_text(encoding="utf-8")
    for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE):
        if f"{{{link}}}" in entry and (known := re.match(r"@\w+\{([^,\s]+),", entry)):
            return text, known[1]
    if re.search(rf"^@\w+\{{{name},", text, re.MULTILINE):
        raise BookError(f"The name {name!r} is taken: book/references.bib has an entry of that key.")
    year = int(re.search(r"\d\d", arxiv)[0])
    fields = {
        "author": "TODO",
        "title": title.replace("%", r"\%"),  # which would begin a comment
        "year": 1900 + year if year >= 90 and "/" in arxiv else 2000 + year,
        "url": link,
    }
    entry = "\n".join(f"  {field} = {{{value}}}," for field, value in fields.items())
    return f"{text.rstrip()}\n\n@misc{{{name},\n{entry}\n}}\n".lstrip(), name


def _quoted(value) -> str:
    """A value as JSON, which is YAML; a list of words as the other files write it."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _find(lines: list[str], pattern: str) -> int | None:
    """The last line that is ``pattern`` and perhaps a comment."""
    found = [index for index, line in enumerate(lines) if re.fullmatch(rf"{pattern}\s*(?:#.*)?", line)]
    return found[-1] if found else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _with(lines: list[str], start: int | None, added: list[str], path: Path, expected, read=lambda parsed: parsed):
    """The text with lines ``added`` at the end of the YAML item that begins at line ``start``.

    Raises BookError unless ``read`` of what is then parsed is as ``expected``.
    """
    if start is not None:
        end = start + 1
        for index in range(start + 1, len(lines)):
            if lines[index].strip() and not lines[index].lstrip().startswith("#"):
                if _indent(lines[index]) <= _indent(lines[start]):
                    break
                end = index + 1  # blank lines and comments after it belong to what follows
        text = "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"
        try:
            if read(yaml.safe_load(text)) == expected:
                return text
        except yaml.YAMLError:
            pass
    raise BookError(f"{path} is laid out in a way that nothing can be added to; add by hand:\n" + "\n".join(added))


# ---------------------------------------------------------------------------------------------- the chapter


def _notebook(book: Path, part: dict, name: str, arxiv: str, title: str, link: str, cite: str):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    if "asks" in part["rows"][0]:
        place = "From the reading notes"
    else:
        series = part.get("title", "TODO: series").partition(":")[0]
        place = f"week {part.get('week', 'TODO')}, {series} · presented by TODO"
    # Not str.format, nor an f-string: the cells are full of braces.
    words = {
        "@NAME": name,
        "@TITLE": title,
        "@CARD": f"**TODO: authors.** TODO: venue and year.\n[arXiv:{arxiv}]({link}) · {place} · {{cite:p}}`{cite}`",
        "@SETUP": address.setup_cell(address.address(book)),
    }

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, str):
            # In one pass: a title may well hold an @.
            return re.sub("|".join(words), lambda match: words[match[0]], value).strip("\n")
        return value

    cells = [
        new_markdown_cell(filled(cell))
        if isinstance(cell, str)
        else new_code_cell(filled(cell[0]), metadata=filled(cell[1]))
        for cell in CELLS
    ]
    return new_notebook(cells=cells)


# A text is a cell of Markdown; a pair is code and the cell's metadata. @WORDS are filled in.
CELLS = [
    """
# @TITLE

```{admonition} The paper
@CARD
```

TODO: the paper in one paragraph: what it asks, what it did, why it mattered.
""",
    "## Set-up",
    ("@SETUP", {"tags": ["setup"]}),
    (
        """
from lessons_lib.settings import scale, seeds, settings

from functools import cache

import matplotlib.pyplot as plt

from lessons_lib import data, models, plots
from lessons_lib.claims import Claim, Claims, above
from lessons_lib.explore import explore
from lessons_lib.training import fit

plots.use_house_style()
print(settings)
""",
        {"tags": ["hide-input", "nbval-ignore-output"]},
    ),
    (
        """
# TODO: the sizes of your experiment; those of the paper at paper scale
dataset_name = scale(lesson="digits", paper="mnist")
n_train = scale(lesson=400, paper=50_000)
n_test = scale(lesson=500, paper=10_000)
hidden = scale(lesson=32, paper=512)  # units of the one hidden layer
rates = [0.003, 0.01, 0.03, 0.1]
epochs = scale(lesson=6, paper=20)
n_seeds = scale(lesson=8, paper=10)
""",
        {"tags": ["parameters"]},
    ),
    "## Claims",
    (
        """
claims = Claims(
    "@NAME",
    Claim("C1", "TODO: a sentence of the paper. A larger learning rate learns faster.",
          quantity="test accuracy in the end, largest rate minus smallest",
          paper="TODO: the paper's number (Table 1)", holds=above(0), null=0),
)  # fmt: skip
claims
""",
        {"tags": ["hide-input"]},
    ),
    "TODO: how you read the paper's words as a region, before you see a result.",
    """
## TODO: The first claim

TODO: the theory in a few lines, derived. A step along the gradient moves the weights by the learning
rate times its length, so that a larger rate covers more ground in as many steps.

**Predict first:** TODO: a question that a reader can answer before the figure. How much does a rate that is
thirty times as large gain in six epochs?
""",
    (
        """
# TODO: the paper's experiment, in place of this one
run_seeds = seeds(n_seeds, "runs")


@cache
def images(seed):
    \"""Each seed's own draw.\"""
    return data.load(dataset_name, n_train, n_test, seed=seed)


n_inputs = images(run_seeds[0]).x_train[0].numel()


def network():
    \"""A perceptron with one hidden layer.\"""
    return models.mlp(n_inputs, hidden, 10)


runs = fit(
    network, images, seeds=run_seeds, epochs=epochs, batch_size=32, lr=rates[0],
    conditions={str(rate): {"lr": rate} for rate in rates}, description="learning rates",
)  # fmt: skip
accuracy = runs.history.test_accuracy
""",
        {},
    ),
    (
        """
fig, ax = plt.subplots()
for rate in rates:
    own = accuracy.sel(condition=str(rate))
    plots.curves_with_spread(ax, own.epoch, own.values, label=f"rate {rate}")
ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
ax.legend()
plt.show()
""",
        {
            "mystnb": {
                "figure": {
                    "caption": "TODO: what to see here. Test accuracy by epoch at four learning rates; "
                    "means over seeds in their 95 % intervals.",
                    "name": "fig-@NAME-first",
                },
                "image": {"alt": "TODO: what is drawn. Four rising lines; the larger the rate, the sooner they rise."},
            },
            "tags": ["hide-input"],
        },
    ),
    (
        """
final = runs.final.test_accuracy
claims["C1"].measure(
    final.sel(condition=str(rates[-1])).values,
    minus=final.sel(condition=str(rates[0])).values,
)
""",
        {},
    ),
    "TODO: what came out, and why; if the claim failed, why it did.",
    """
## Explore

TODO: what to try. One network at each learning rate, from the same start.
""",
    (
        """
# TODO: a control for the quantity that matters in the paper
def draw_rate(rate):
    \"""Training and test accuracy of the first seed's network.\"""
    own = runs.history.sel(condition=str(rate), seed=run_seeds[0])
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.plot(own.epoch, own.train_accuracy, label="training")
    ax.plot(own.epoch, own.test_accuracy, label="test")
    ax.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    ax.legend(loc="lower right")
    return fig


def describe_rate(rate):
    \"""What the picture shows.\"""
    last = runs.final.sel(condition=str(rate), seed=run_seeds[0])
    train, test = float(last.train_accuracy), float(last.test_accuracy)
    return f"Rate {rate}: training accuracy {train:.2f} and test accuracy {test:.2f} in the end."


explore(draw_rate, describe=describe_rate, rate=rates)
""",
        {"tags": ["hide-input", "nbval-ignore-output"]},
    ),
    "## Verdicts",
    ("claims.verdicts()", {}),
    "TODO: what differs from the paper: data, sizes, number of seeds.",
    """
## What came after

- TODO: critiques, replications, and what is thought today, with citations.
""",
    """
## Self-check

Three questions on what you have just seen. Answer before you unfold.

**a)** TODO: a question. Which learning rate learned fastest?

```{admonition} Answer
:class: dropdown
TODO: the answer, explained. The largest: in as few epochs the others do not get as far.
```

**b)** TODO: a question. Why do all rates share their seeds?

```{admonition} Answer
:class: dropdown
TODO: the answer, explained. Then each pair starts from the same weights, and what differs is the rate alone.
```

**c)** TODO: a question. What would the difference be if the rate had no effect?

```{admonition} Answer
:class: dropdown
TODO: the answer, explained. Nought, the claim's null.
```
""",
    """
## Exercises

**1.** TODO: an exercise that code can check. How many weights has the network above? Set `n_weights` and run
the next cell.
""",
    ("n_weights = None  # TODO: a number", {}),
    (
        """
# TODO: the check of your exercise
def check(answer):
    \"""Compare an answer with the network.\"""
    if answer is None:
        return "Set n_weights first."
    right = answer == models.parameter_count(network())
    return "Right." if right else "Count the biases of both layers too."


print(check(n_weights))
""",
        {},
    ),
    """
```{admonition} Solution
:class: dropdown
TODO: the solution. With 64 inputs, 32 hidden units and 10 classes $64 \\cdot 32 + 32 + 32 \\cdot 10 + 10 = 2410$.
```

**2.** TODO: an exercise that takes thought. Why can the learning rate not be made as large as you like?

```{admonition} Solution
:class: dropdown
TODO: the solution. Where the loss curves by more than 2 / rate, a step of plain gradient descent lands farther
from the minimum than it began.
```
""",
    """
## Bigger

`python -m lessons_lib run @NAME --scale paper` TODO: does what, in how long, on which machine, with which number;
and why the lesson's, this and the paper's numbers differ.
""",
]
