"""Figures that a reader moves with controls, with and without a running kernel.

Every picture is drawn beforehand. The controls are linked to the pictures in the browser itself, so they work
the same in JupyterLab, in Colab and on the book's pages, where no Python runs; a callback into Python would
be dead there. Pictures of widgets come from their state in the notebook, which is numbered at random: give
the cell that calls ``explore`` the tag ``nbval-ignore-output``.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Number
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image

from lessons_lib import plots
from lessons_lib.progress import bar

DPI = 100  # with 64 colours, some 10 to 20 kB a frame 7 inches wide
COLOURS = 64


class ExploreError(ValueError):
    """The controls, or what was drawn for them, cannot be shown."""


@dataclass(frozen=True)
class _Frame:
    label: str
    sentence: str
    picture: bytes

    def figure(self) -> str:
        """The picture and its sentence; widgets.Image could not carry an alt text."""
        said = html.escape(self.sentence)
        return f'<figure class="explore-frame">{_img(self.picture, said)}<figcaption>{said}</figcaption></figure>'


def explore(draw: Callable[..., Figure], *, describe: Callable[..., str], megabytes: float = 1.5, **controls) -> None:
    """Show ``draw(**point)`` for every point of the grid that one to three ``controls`` span.

    ``explore(draw, describe=describe, depth=[2, 4, 8], data={"true labels": 0.0, "random": 1.0})`` calls
    ``draw(depth=2, data=0.0)`` and so on, once each. A list of numbers becomes a slider; a list of names, or
    a dictionary from names to values, a menu. ``describe(**point)`` is one sentence that says what that
    picture shows: it stands under it, and is its alt text. After the controls come all the pictures at once,
    for print and for pages without scripts.

    Figures are closed. Raises ExploreError for no control or more than three, one without values, a point for
    which no figure or no sentence comes back (naming it), and pictures of more than ``megabytes`` together as
    they are stored.
    """
    grid = {name: _labelled(name, values) for name, values in controls.items()}
    if not 1 <= len(grid) <= 3:
        raise ExploreError(f"explore takes one to three controls; it was given {len(grid)}.")
    frames = _draw_all(draw, describe, grid, megabytes)
    sheet = _contact_sheet(frames, columns=len(list(grid.values())[-1]) if len(grid) > 1 else 3)
    _check_size([frame.picture for frame in frames] + [sheet], len(frames) + 1, megabytes)

    dials = [_control(name, options) for name, options in grid.items()]
    display(widgets.VBox([*dials, _stacks(dials, iter(frames))]).add_class("explore"))
    display(HTML(_all_at_once(frames, sheet)))


def _labelled(name: str, values) -> dict[str, Any]:
    options = values if isinstance(values, dict) else {_label(value): value for value in values}
    if not options:
        raise ExploreError(f"The control {name!r} has no values.")
    if len(options) < len(values):
        raise ExploreError(f"The control {name!r} has values that look the same: {[*map(_label, values)]}.")
    return options


def _label(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _draw_all(draw, describe, grid: dict[str, dict], megabytes: float) -> list[_Frame]:
    frames = []
    points = list(itertools.product(*(options.items() for options in grid.values())))
    with bar(len(points), "drawing") as progress:
        for point in points:
            arguments = {name: value for name, (_, value) in zip(grid, point, strict=True)}
            label = ", ".join(f"{_words(name)} {shown}" for name, (shown, _) in zip(grid, point, strict=True))
            figure = draw(**arguments)
            if not isinstance(figure, Figure):
                raise ExploreError(f"draw({label}) gave {type(figure).__name__}; it must return its figure.")
            picture = plots.png(figure, colours=COLOURS, dpi=DPI)
            plt.close(figure)
            sentence = describe(**arguments)
            if not isinstance(sentence, str) or not sentence.strip():
                raise ExploreError(f"describe({label}) gave {sentence!r}; it must return a sentence.")
            frames.append(_Frame(label, sentence, picture))
            _check_size([frame.picture for frame in frames], len(points), megabytes)
            progress.update(1)
    return frames


def _check_size(pictures: list[bytes], planned: int, megabytes: float):
    """Refuse as soon as the pictures drawn pass the bound, and say how large all of them would be."""
    stored = sum(map(len, pictures)) * 4 / 3 / 1e6  # in base64
    if stored > megabytes:
        raise ExploreError(
            f"{len(pictures)} of {planned} pictures already take {stored:.2f} MB as stored; the bound is "
            f"{megabytes} MB, and all would take about {stored * planned / len(pictures):.1f} MB. "
            "Give the controls fewer values, or draw smaller or plainer figures."
        )


def _contact_sheet(frames: list[_Frame], columns: int, width: int = 1000) -> bytes:
    """All frames in rows of ``columns``, each below its label, as one PNG ``width`` pixels wide."""
    columns = min(columns, len(frames), 5)
    rows = math.ceil(len(frames) / columns)
    pictures = [Image.open(io.BytesIO(frame.picture)).convert("RGB") for frame in frames]
    tallest = max(picture.height / picture.width for picture in pictures)
    inches = width / DPI
    figure, axes = plt.subplots(
        rows, columns, squeeze=False, dpi=DPI, figsize=(inches, rows * (inches / columns * tallest + 0.3))
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, frame, picture in zip(axes.flat, frames, pictures, strict=False):
        picture.thumbnail((width // columns, width))
        ax.imshow(np.asarray(picture), interpolation="none")
        ax.set_title(frame.label, fontsize=9)
    sheet = plots.png(figure, colours=COLOURS)
    plt.close(figure)
    return sheet


def _control(name: str, options: dict[str, Any]) -> widgets.Widget:
    """A slider for numbers, a menu for names. Both have an ``index``, which is what the browser links."""
    numbers = all(isinstance(value, Number) and label == _label(value) for label, value in options.items())
    return (widgets.SelectionSlider if numbers else widgets.Dropdown)(
        options=list(options),
        description=_words(name),
        style={"description_width": "initial"},
        layout={"width": "auto", "max_width": "28rem"},
    )


def _stacks(dials: list[widgets.Widget], frames: Iterator[_Frame]) -> widgets.Widget:
    """The frames, in the grid's order, in stacks within stacks, each linked to its own dial."""
    if not dials:
        return widgets.HTML(next(frames).figure())
    dial, *inner = dials
    stack = widgets.Stack([_stacks(inner, frames) for _ in dial.options], selected_index=0)
    widgets.jslink((dial, "index"), (stack, "selected_index"))
    return stack


def _all_at_once(frames: list[_Frame], sheet: bytes) -> str:
    alt = f"{len(frames)} small pictures, one for each setting of the controls; the list below says what each shows."
    sentences = "".join(f"<li>{html.escape(f'{frame.label}: {frame.sentence}')}</li>" for frame in frames)
    return (
        '<details class="explore-all"><summary>All frames at once</summary>'
        f"<figure>{_img(sheet, alt)}</figure><ul>{sentences}</ul></details>"
    )


def _img(picture: bytes, alt: str) -> str:
    width, height = Image.open(io.BytesIO(picture)).size  # stated, lest the page jump as pictures arrive
    source = "data:image/png;base64," + base64.b64encode(picture).decode()
    style = "max-width:100%;height:auto"
    return f'<img alt="{alt}" src="{source}" width="{width}" height="{height}" style="{style}">'


def _words(name: str) -> str:
    return name.replace("_", " ")
