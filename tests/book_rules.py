"""The rules that every chapter keeps. Each takes a chapter's notebook and its name and returns what is wrong.

nbval compares outputs; these rules see to what it lets pass: a notebook that was never executed, a claim with
too few seeds, a picture that says nothing to a reader who cannot see it.
"""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

from lessons_lib import address
from lessons_lib.claims import MIN_SEEDS, RECORD_TYPE, RESULT_TYPE, decide
from lessons_lib.notebooks import WIDGET_STATE, assigned

SETUP_CELL = address.setup_cell(address.address(Path(__file__).resolve().parent.parent))
OPENING = ["Set-up", "Claims"]
CLOSING = ["Explore", "Verdicts", "What came after", "Self-check", "Exercises", "Bigger"]
CODE_LINES = 30
CODE_COLUMNS = 100  # nearly what the page's column holds
MARKDOWN_CHARACTERS = 3000  # some 450 words: what fits a screen, or nearly
NOTEBOOK_BYTES = 1.5e6
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NUMERICAL = {"numpy", "torch", "torchvision", "scipy", "sklearn", "matplotlib", "xarray", "mnist1d"}

_MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:home|root|work|Users|tmp/ipykernel\w*)/|\b[A-Z]:\\\\?(?:Users|Program)")
_VERDICT = re.compile(r'class="verdict verdict-(\w+)"')
_FOREIGN = re.compile(
    r"""<(?:script|iframe|img|embed|object|video|audio|source)\b[^>]*\b(?:src|data)\s*=\s*["']?(?:https?:)?//"""
    r"""|<link\b[^>]*\bhref\s*=\s*["']?(?:https?:)?//|@import\s+(?:url\()?["']?https?://|!\[[^\]]*\]\(\s*<?https?://"""
    r"""|\bimport\s*\(\s*["']https?://""",
    re.IGNORECASE,
)


def code_cells(notebook):
    """The code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs(notebook):
    """Every output with its cell."""
    return [(cell, output) for cell in code_cells(notebook) for output in cell.outputs]


def headings(notebook):
    """The second-level headings, each with the index of its cell; code fences do not count."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(```+|~~~+).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            found += [(match.strip(), index) for match in re.findall(r"^## (.*)$", prose, re.MULTILINE)]
    return found


def section(notebook, name):
    """The cells from the heading ``name`` to the next one."""
    found = [*headings(notebook), (None, len(notebook.cells))]
    for (heading, start), (_, stop) in pairwise(found):
        if heading == name:
            return notebook.cells[start : max(stop, start + 1)]
    return []


def records(notebook):
    """Every record of claims in the outputs."""
    return [output.data[RECORD_TYPE] for _, output in outputs(notebook) if RECORD_TYPE in output.get("data", {})]


def first_line(cell):
    """What names a cell to its author."""
    return repr(cell.source.strip().partition("\n")[0])


def executed_in_order(notebook, name):
    """Every code cell has run, once, from the top, in a fresh kernel, and without an error."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"its cells ran in the order {counts}; execute it: python -m lessons_lib store {name}"
    for cell, output in outputs(notebook):
        if output.output_type == "error":
            yield f"cell {first_line(cell)} ended in {output.ename}"


def has_widgets_with_state(notebook, name):
    """At least one widget, and the state without which the page shows none."""
    views = [output.get("data", {}).get(WIDGET_VIEW) for _, output in outputs(notebook)]
    shown = [view["model_id"] for view in views if view]
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    if not shown:
        yield "it shows no widget"
    if missing := set(shown) - set(state):
        yield f"{len(missing)} of its widgets have no stored state"


def sets_up_first(notebook, name):
    """The first code cell installs lessons_lib where it is missing, and is the same in every chapter."""
    cell = code_cells(notebook)[0]
    if cell.source != SETUP_CELL:
        yield f"its first code cell is not the set-up cell:\n{SETUP_CELL}"
    if "setup" not in cell.metadata.get("tags", []):
        yield "its set-up cell lacks the tag 'setup'"


def imports_the_library_first(notebook, name):
    """lessons_lib chooses the threads of numpy and torch, and can do so only before they load."""
    for cell in code_cells(notebook)[1:]:
        lines = cell.source.splitlines()
        python = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
        for node in ast.walk(ast.parse(python)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in (name.partition(".")[0] for name in names):
                if module == "lessons_lib":
                    return
                if module in NUMERICAL:
                    yield f"it imports {module} before lessons_lib"
                    return


def parameter_cells(notebook):
    return [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]


def keeps_its_sizes_in_one_cell(notebook, name):
    """Every size stands in one cell tagged ``parameters``, where ``run --set`` can replace any of them."""
    cells = parameter_cells(notebook)
    if len(cells) != 1:
        yield f"{len(cells)} of its cells are tagged 'parameters'; one must be, with every size"
    for cell in cells:
        sizes = set(assigned(cell.source))
        for node in ast.parse(cell.source).body:
            line = ast.unparse(node)
            if not isinstance(node, ast.Assign) or not all(isinstance(target, ast.Name) for target in node.targets):
                yield f"{line!r} in its cell tagged 'parameters' is no assignment to a name"
            elif read := sizes & {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}:
                yield f"{line!r} in its cell tagged 'parameters' would miss another {', '.join(sorted(read))}"


def sets_what_it_has(notebook, name):
    """What its commands set by ``--set`` are names in its cell tagged ``parameters``."""
    known = {parameter for cell in parameter_cells(notebook) for parameter in assigned(cell.source)}
    for cell in notebook.cells:
        for parameter in re.findall(r"--set\s+['\"]?(\w+)=", cell.source):
            if parameter not in known:
                yield f"cell {first_line(cell)} sets {parameter}, which is no parameter"


def has_every_part(notebook, name):
    """Title and paper card, then the sections of DESIGN's anatomy, in order."""
    opening = notebook.cells[0]
    if opening.cell_type != "markdown" or not opening.source.startswith("# "):
        yield "its first cell is not a title"
    elif "](http" not in opening.source:
        yield "its first cell has no link to the paper"
    found = [heading for heading, _ in headings(notebook)]
    middle = found[len(OPENING) : -len(CLOSING)]
    if found[: len(OPENING)] != OPENING or found[-len(CLOSING) :] != CLOSING or not middle:
        yield f"its sections are {found}; they must be {OPENING}, one or more on claims, {CLOSING}"
    for name in ("Self-check", "Exercises"):
        if ":class: dropdown" not in "".join(cell.source for cell in section(notebook, name)):
            yield f"its section {name!r} has no answer in a dropdown"


def states_claims_before_results(notebook, name):
    """The claims stand under Claims, what became of them under Verdicts, and nowhere else."""
    if "text/html" not in _data(section(notebook, "Claims")):
        yield "no table of claims stands under Claims"
    if RECORD_TYPE not in _data(section(notebook, "Verdicts")):
        yield "no verdicts stand under Verdicts"
    if len(records(notebook)) > 1:
        yield f"it holds {len(records(notebook))} records of claims; one is read"


def _data(cells):
    return {key for cell in cells for output in cell.get("outputs", ()) for key in output.get("data", {})}


def verdicts_follow_from_values(notebook, name):
    """The record is this chapter's, at the book's settings; values, rules, verdicts and tables agree."""
    for _, output in outputs(notebook):
        if row := output.get("data", {}).get(RESULT_TYPE):
            said, shown = output.data["text/plain"], re.findall(_VERDICT, output.data["text/html"])
            if said != f"{row['id']} {decide(row).verdict}" or shown != [row["verdict"]]:
                yield f"{row['id']} is stored as {said!r}, {shown}; its values say {decide(row).verdict}"
        elif 'class="claim-result"' in output.get("data", {}).get("text/html", ""):
            yield f"{output.data['text/plain']!r} has no record of what was measured; store the chapter again"
        if not (record := output.get("data", {}).get(RECORD_TYPE)):
            continue
        if (record["chapter"], record["scale"], record["seed"]) != (name, "lesson", 0):
            yield f"its record is of {record['chapter']}, scale {record['scale']}, seed {record['seed']}"
        for row in record["claims"]:
            if (verdict := decide(row).verdict) != row["verdict"]:
                yield f"{row['id']} is stored as {row['verdict']}; its values say {verdict}"
        said = [f"{row['id']} {row['verdict']}" for row in record["claims"]]
        if output.data["text/plain"].split("\n") != said:
            yield f"its record and the text beside it disagree: {said}, {output.data['text/plain']!r}"
        shown = re.findall(_VERDICT, output.data["text/html"])
        if shown != [row["verdict"] for row in record["claims"]]:
            yield f"its record and the table beside it disagree: {said}, {shown}"


def lets_verdicts_be_compared(notebook, name):
    """nbval is told to ignore widgets and settings, never what a claim came to, and to skip nothing."""
    for cell in code_cells(notebook):
        marks = {tag.upper().replace("-", "_") for tag in cell.metadata.get("tags", [])}
        marks |= set(re.findall(r"^\s*#\s*((?:PYTEST_VALIDATE|NBVAL)_\w+)\s*$", cell.source, re.MULTILINE))
        if marks & {"NBVAL_SKIP", "RAISES_EXCEPTION", "NBVAL_RAISES_EXCEPTION"}:
            yield f"cell {first_line(cell)} is exempt from running without an error"
        if marks & {"NBVAL_IGNORE_OUTPUT", "PYTEST_VALIDATE_IGNORE_OUTPUT"}:
            said = "".join(str(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
            if 'class="verdict' in said:
                yield f"cell {first_line(cell)} gives a verdict that nbval is told to ignore"


def measures_over_seeds(notebook, name):
    """Every measured claim rests on at least five seeds."""
    for record in records(notebook):
        for row in record["claims"]:
            if row["evidence"] == "measurement" and min(row["n"], len(row["values"])) < MIN_SEEDS:
                yield f"{row['id']} is measured over {len(row['values'])} seeds; it takes {MIN_SEEDS}"


def describes_figures(notebook, name):
    """A picture has a caption, a name to refer to, and a text for those who do not see it."""
    for cell, output in outputs(notebook):
        if not {"image/png", "image/jpeg", "image/svg+xml"} & set(output.get("data", {})):
            continue
        render = cell.metadata.get("mystnb", {})
        given = {
            "figure.caption": render.get("figure", {}).get("caption"),
            "figure.name": render.get("figure", {}).get("name"),
            "image.alt": render.get("image", {}).get("alt"),
        }
        if missing := [key for key, value in given.items() if not (value or "").strip()]:
            yield f"the figure of cell {first_line(cell)} has no mystnb {', '.join(missing)}"
        if "image/svg+xml" in output.data:
            yield f"the figure of cell {first_line(cell)} is SVG, which carries the date; draw PNG"


def fits_a_screen(notebook, name):
    """No cell is too long to be seen at once."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and (lines := cell.source.count("\n") + 1) > CODE_LINES:
            yield f"cell {first_line(cell)} has {lines} lines of code; {CODE_LINES} fit a screen"
        widest = max(map(len, cell.source.splitlines()), default=0)
        if cell.cell_type == "code" and widest > CODE_COLUMNS:
            yield f"cell {first_line(cell)} has {widest} columns of code; {CODE_COLUMNS} fit the page"
        if cell.cell_type == "markdown" and (length := len(cell.source)) > MARKDOWN_CHARACTERS:
            yield f"cell {first_line(cell)} has {length} characters of text; cut it at {MARKDOWN_CHARACTERS}"


def names_no_machine(notebook, name):
    """No path of the machine it ran on, in code, text or outputs."""
    for place, text in _texts(notebook):
        if match := _MACHINE_PATH.search(text):
            yield f"cell {place} holds a path of one machine: {text[match.start() : match.end() + 30]!r}"


def fetches_nothing(notebook, name):
    """The page works with the network shut: no script, frame or picture from elsewhere."""
    for place, text in _texts(notebook):
        if match := _FOREIGN.search(text):
            yield f"cell {place} loads something from elsewhere: {match[0]!r}"


def _texts(notebook):
    """Everything a reader may see, pictures aside, with the first line of its cell."""
    for cell in notebook.cells:
        yield first_line(cell), cell.source
        for output in cell.get("outputs", ()):
            shown = {key: value for key, value in output.get("data", {}).items() if not key.startswith("image/")}
            text = "".join(value if isinstance(value, str) else json.dumps(value) for value in shown.values())
            text += output.get("text", "")
            yield first_line(cell), re.sub(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+", "", text)
    for model in notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        text = "".join(value for value in model["state"].values() if isinstance(value, str))
        yield model["model_name"], re.sub(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+", "", text)


def has_no_todo(notebook, name):
    """Nothing is left, in text, code or captions, of what ``python -m lessons_lib new`` marks to be replaced."""
    for cell in notebook.cells:
        if re.search(r"\bTODO\b", cell.source + json.dumps(cell.metadata)):
            yield f"cell {first_line(cell)} holds a TODO"


def is_small(notebook, name):
    """The notebook stays readable on the web and in a diff."""
    size = len(json.dumps(notebook, indent=1, ensure_ascii=False).encode())
    if size > NOTEBOOK_BYTES:
        yield f"it has {size / 1e6:.2f} MB; a notebook has {NOTEBOOK_BYTES / 1e6} MB"


RULES = [
    executed_in_order,
    has_widgets_with_state,
    sets_up_first,
    imports_the_library_first,
    keeps_its_sizes_in_one_cell,
    sets_what_it_has,
    has_every_part,
    states_claims_before_results,
    verdicts_follow_from_values,
    lets_verdicts_be_compared,
    measures_over_seeds,
    describes_figures,
    fits_a_screen,
    names_no_machine,
    fetches_nothing,
    has_no_todo,
    is_small,
]
