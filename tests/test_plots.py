"""Plots: colours that can be told apart, PNGs that do not change, shared plots that draw what they say."""

import io
import itertools

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from lessons_lib import plots

# How the world looks without one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1, linear RGB.
VISION = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.fixture(autouse=True)
def house_style():
    with plt.rc_context():
        plots.use_house_style()
        yield
        plt.close("all")


def linear_rgb(colour):
    channels = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG 2 contrast ratio."""
    luminances = sorted(linear_rgb(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (luminances[1] + 0.05) / (luminances[0] + 0.05)


def cielab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_stand_out_from_the_card():
    assert contrast("black", "white") == pytest.approx(21)
    assert {name: contrast(colour, plots.CARD) >= 3 for name, colour in plots.COLOURS.items()} == dict.fromkeys(
        plots.COLOURS, True
    )
    assert contrast(plots.INK, plots.CARD) >= 7, "text"


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_stay_apart(vision):
    """A CIELAB distance of 20 is some ten times what the eye can just tell apart."""
    seen = {
        name: cielab(np.clip(np.array(VISION[vision]) @ linear_rgb(colour), 0, 1))
        for name, colour in plots.COLOURS.items()
    }
    close = [pair for pair in itertools.combinations(seen, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < 20]
    assert close == []


def figure():
    fig, ax = plt.subplots()
    rng = np.random.default_rng(0)
    for _ in plots.COLOURS:
        plots.curves_with_spread(ax, np.arange(50), rng.normal(size=(6, 50)).cumsum(axis=1))
    return fig


def test_png_is_small_the_same_again_and_bears_no_date_or_name():
    picture = plots.png(figure())
    assert picture == plots.png(figure())
    assert len(picture) < 60_000
    opened = Image.open(io.BytesIO(picture))
    assert opened.info.keys() <= {"dpi"} and opened.size == (980, 546)
    assert len(Image.open(io.BytesIO(plots.png(figure(), colours=16))).getcolors()) <= 16


def test_png_keeps_the_colours():
    full = io.BytesIO()
    (drawn := figure()).savefig(full, format="png")
    original = np.asarray(Image.open(full).convert("RGB")).astype(int)
    stored = np.asarray(Image.open(io.BytesIO(plots.png(drawn))).convert("RGB")).astype(int)
    assert np.abs(stored - original).max() <= 24


def test_png_at_another_resolution_leaves_the_figure_as_it_was_and_needs_no_pyplot():
    for drawn in (figure(), Figure(figsize=(7, 3.9))):
        before = drawn.dpi
        assert Image.open(io.BytesIO(plots.png(drawn, dpi=50))).size == (350, 195)
        assert drawn.dpi == before


def test_curves_draw_the_mean_and_its_interval():
    runs = np.random.default_rng(1).gamma(2, size=(6, 4))
    fig, ax = plt.subplots()
    line = plots.curves_with_spread(ax, [1, 2, 3, 4], runs, label="six runs", color=plots.COLOURS["pink"])
    assert line.get_ydata() == pytest.approx(runs.mean(axis=0)) and line.get_label() == "six runs"
    band = ax.collections[0].get_paths()[0].get_extents()
    low, high = stats.ttest_1samp(runs, 0).confidence_interval(0.95)
    assert (band.ymin, band.ymax) == pytest.approx((low.min(), high.max()))


@pytest.mark.parametrize("sizes", [(7, 7), (7, 3)])
def test_dots_draw_every_seed_and_the_interval(sizes):
    runs = [np.random.default_rng(2).gamma(2, size=size) for size in sizes]
    fig, ax = plt.subplots()
    plots.dots_with_interval(ax, ["true", "random"], runs, log=True)
    assert ax.lines[0].get_ydata() == pytest.approx(np.concatenate(runs))
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([stats.gmean(values) for values in runs])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["true", "random"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.curves_with_spread(ax, [1, 2, 3], np.ones((5, 4))),
        lambda ax: plots.curves_with_spread(ax, [1, 2, 3], np.ones((1, 3))),
        lambda ax: plots.dots_with_interval(ax, ["a", "b"], np.ones((3, 5))),
        lambda ax: plots.dots_with_interval(ax, ["a"], np.ones(5)),
    ],
)
def test_wrong_shapes_are_refused(draw):
    with pytest.raises(ValueError, match="runs has shape .* it must be"):
        draw(plt.subplots()[1])
