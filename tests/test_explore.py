"""What explore leaves in the notebook: every frame described, every stack linked to its own control."""

import base64
import io
import re

import ipywidgets as widgets
import matplotlib
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from lessons_lib import explore as module
from lessons_lib.explore import ExploreError, explore

matplotlib.use("agg")


@pytest.fixture
def shown(monkeypatch):
    """What explore displays, in order."""
    outputs = []
    monkeypatch.setattr(module, "display", outputs.append)
    return outputs


def draw(**point):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.set_title(", ".join(map(str, point.values())))
    return figure


def describe(**point):
    return f"It is {point} & more."


def frames(widget):
    """Every picture below a widget, in order."""
    if isinstance(widget, widgets.HTML):
        return [widget.value]
    return [frame for child in getattr(widget, "children", ()) for frame in frames(child)]


def links():
    return [w for w in widgets.widget._instances.values() if isinstance(w, widgets.widget_link.Link)]


@pytest.mark.parametrize(
    "controls, counts",
    [
        ({"depth": [1, 2, 3]}, [1]),
        ({"depth": [1, 2, 3], "data": ["true", "random"]}, [1, 3]),
        ({"depth": [1, 2], "data": {"a": 0, "b": 1}, "width": [0.5, 1.0]}, [1, 2, 4]),
    ],
)
def test_every_point_is_drawn_once_and_linked(shown, controls, counts):
    drawn = []
    widgets.Widget.close_all()

    def noting(**point):
        drawn.append(tuple(point.values()))
        return draw(**point)

    assert explore(noting, describe=describe, **controls) is None
    expected = [()]
    for values in controls.values():
        values = values.values() if isinstance(values, dict) else values
        expected = [(*point, value) for point in expected for value in values]
    assert drawn == expected
    box, sheet = shown
    assert len(frames(box)) == len(expected)
    # Each control drives all the stacks of its level and no other: its index is what the browser links.
    linked = [link.source[0] for link in links() if link.source[1] == "index" and link.target[1] == "selected_index"]
    assert [sum(source is dial for source in linked) for dial in box.children[:-1]] == counts
    assert not plt.get_fignums()
    assert sheet.data.count("<li>") == len(expected)


def test_frames_carry_their_sentence_as_text_and_as_alt(shown):
    explore(draw, describe=describe, depth=[1, 2])
    for frame, depth in zip(frames(shown[0]), (1, 2), strict=True):
        sentence = f"It is {{&#x27;depth&#x27;: {depth}}} &amp; more."
        assert f'alt="{sentence}"' in frame and f"<figcaption>{sentence}</figcaption>" in frame
        picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", frame)[1])))
        assert picture.mode == "P"
    assert '<details class="explore-all"><summary>All frames at once</summary>' in shown[1].data
    assert 'alt=""' not in shown[1].data


def test_numbers_become_a_slider_and_names_a_menu_both_labelled(shown):
    explore(draw, describe=describe, weight_scale=[1, 2.5], data={"true": 0, "random": 1})
    slider, menu, _ = shown[0].children
    assert isinstance(slider, widgets.SelectionSlider) and slider.description == "weight scale"
    assert slider.options == ("1", "2.5")
    assert isinstance(menu, widgets.Dropdown) and menu.options == ("true", "random")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(), "one to three controls; it was given 0"),
        (dict(a=[1], b=[1], c=[1], d=[1]), "it was given 4"),
        (dict(depth=[]), "'depth' has no values"),
        (dict(depth=[1, 1.0]), "'depth' has values that look the same"),
        (dict(depth=range(20), megabytes=0.02), r"of 20 pictures already take .* MB .* the bound is 0.02 MB"),
    ],
)
def test_bad_controls_and_too_much_to_store(shown, arguments, message):
    with pytest.raises(ExploreError, match=message):
        explore(draw, describe=describe, **arguments)
    assert not shown


def test_a_point_without_figure_or_sentence_is_named(shown):
    with pytest.raises(ExploreError, match=r"draw\(depth 2\) gave NoneType; it must return its figure"):
        explore(lambda depth: draw() if depth == 1 else None, describe=describe, depth=[1, 2])
    with pytest.raises(ExploreError, match=r"describe\(depth 1\) gave '  '; it must return a sentence"):
        explore(draw, describe=lambda depth: "  ", depth=[1, 2])
