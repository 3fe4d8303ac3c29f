"""The house style of the figures, and the few plots that several chapters share.

Figures are opaque, on a warm white card with dark ink: so they read the same on a light page, on a dark one,
in JupyterLab, on GitHub and in print, which a transparent figure does not. A figure is 7 inches wide for a
column of 700 pixels, its letters large enough to survive a phone's 360.
"""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lessons_lib.claims import t_interval

CARD = "#fcfaf5"
INK = "#2d2b30"
GRID = "#dedad2"

# In the order in which lines take them. Each has a contrast of 3 or more with the card, and any two stay apart
# for readers with protanopia, deuteranopia and tritanopia: tests/test_plots.py computes both.
COLOURS = {
    "blue": "#1442d8",
    "amber": "#c27d1c",
    "green": "#07591f",
    "pink": "#cc2080",
    "sky": "#2494e0",
    "ink": INK,
}

STYLE = {
    "figure.figsize": (7.0, 3.9),
    "figure.dpi": 140,
    "figure.facecolor": CARD,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": CARD,
    "savefig.dpi": "figure",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.facecolor": CARD,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "image.cmap": "cividis",
}


def use_house_style():
    """Draw every figure from here on in the book's style; call it once, in a chapter's set-up cell.

    In a notebook, figures are also stored as the small PNGs of ``png``, the same bytes on every run. Call
    ``ax.grid(False)`` where the axes show an image.
    """
    plt.rcParams.update(STYLE)
    try:
        from IPython import get_ipython
    except ImportError:  # a plain script
        return
    if shell := get_ipython():
        plt.close(plt.figure())  # the inline backend sets its own format at the first figure: let it be now
        shell.display_formatter.formatters["image/png"].for_type(Figure, png)


def png(figure: Figure, *, colours: int = 256, dpi: float | None = None) -> bytes:
    """``figure`` as a PNG of at most ``colours`` colours, some 10 to 40 kB, without a date or program's name.

    ``dpi`` stands in for the figure's own.
    """
    # As ``savefig`` draws it, which would draw it twice, once for the layout alone: a fifth of the time.
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    own_dpi = figure.dpi
    try:
        figure.dpi = dpi or own_dpi
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    finally:
        figure.dpi = own_dpi
    # Of Pillow's methods this one keeps rare colours, such as the ends of a colour bar, and makes the smaller file.
    palette = picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    stored = io.BytesIO()
    palette.save(stored, format="png", optimize=True)
    return stored.getvalue()


def curves_with_spread(ax: Axes, x, runs, *, label: str | None = None, log: bool = False, **line):
    """Draw the mean of ``runs`` [seeds, points] over ``x`` [points], in a band of its 95 % t interval.

    ``log`` takes geometric means. ``line`` goes to ``ax.plot``, whose line is returned. Raises ValueError
    for other shapes.
    """
    runs = np.asarray(runs, dtype=np.float64)
    if runs.ndim != 2 or runs.shape[1] != len(x) or len(runs) < 2:
        raise ValueError(f"runs has shape {list(runs.shape)}; it must be [2 or more seeds, {len(x)} points].")
    mean, low, high = t_interval(runs, log=log)
    (drawn,) = ax.plot(x, mean, label=label, **line)
    ax.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    return drawn


def dots_with_interval(ax: Axes, labels, runs, *, log: bool = False, colour: str = COLOURS["blue"]):
    """Draw a faint dot for every seed of ``runs``, a vector and a column a label, beside its 95 % interval.

    Labels may have different numbers of seeds, 2 or more. ``log`` takes geometric means. Raises ValueError for other
    shapes.
    """
    runs = [np.asarray(values, dtype=np.float64) for values in runs]
    if len(runs) != len(labels) or any(values.ndim != 1 or len(values) < 2 for values in runs):
        shapes = [list(values.shape) for values in runs]
        raise ValueError(f"runs has shape {shapes}; it must be [2 or more seeds] for each of {len(labels)} labels.")
    place = np.arange(len(labels))
    mean, low, high = np.transpose([t_interval(values, log=log) for values in runs])
    columns = np.repeat(place - 0.1, [len(values) for values in runs])
    ax.plot(columns, np.concatenate(runs), "o", color=colour, alpha=0.35, markeredgewidth=0)
    ax.errorbar(place + 0.1, mean, yerr=[mean - low, high - mean], fmt="o", color=colour, capsize=5)
    ax.set_xticks(place, labels)
    ax.set_xlim(-0.5, len(labels) - 0.5)
