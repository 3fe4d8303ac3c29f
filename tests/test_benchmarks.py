"""The benchmarks' arithmetic on made-up timings, their stored results, and the page that shows them."""

import html
import json
import re
import sys
import time

import jsonschema
import numpy as np
import pytest
from toys import ROOT

from benchmarks import harness, information, slopes

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
import costs

FOLDER = ROOT / "benchmarks"


def made_up(**changes):
    """Ours takes 1, 2 and 4 seconds, the peer 3, 8 and 8: within the rounds ours is 3, 4 and 2 times as fast."""
    seconds = {"peer": [3.0, 8.0, 8.0], "other": [1.0, 1.0, 1.0], "ours": [1.0, 2.0, 4.0]}
    return harness.Comparison("work", seconds, **{"aims": {"peer": 3.0, "other": None}, **changes})


def test_a_ratio_is_the_median_of_those_within_a_round_with_the_least_and_the_largest():
    found = made_up()
    assert found.ratio("peer") == (3.0, 2.0, 4.0)  # the ratio of the medians would be 4
    assert found.ratio("other") == (0.5, 0.25, 1.0)
    assert found.reached("peer") is True and found.reached("other") is None
    assert made_up(aims={"peer": 3.1}).reached("peer") is False


def test_a_record_holds_the_medians_in_the_units_asked_for_and_ours_has_no_ratio():
    peer, other, ours = made_up(per=0.5).record()["rows"]
    assert [peer["seconds"], other["seconds"], ours["seconds"]] == [16, 2, 4]
    assert peer["ratio"] == {"median": 3, "low": 2, "high": 4} and peer["reached"] is True
    assert other["aim"] is None and other["reached"] is None
    assert ours == {"name": "ours", "seconds": 4}


def test_variants_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    clock, order, now = iter([100.0, 1.0, 2.0, 100.0, 3.0, 4.0]), [], [0.0]

    def work(name):
        order.append(name)
        now[0] += next(clock)

    monkeypatch.setattr(time, "process_time", lambda: now[0])
    variants = {"peer": lambda: work("peer"), "ours": lambda: work("ours")}
    found = harness.compare("work", variants, aims={"peer": 1, "absent": 2}, rounds=2)
    assert order == ["peer", "ours"] * 3
    assert found.seconds == {"peer": [2.0, 3.0], "ours": [100.0, 4.0]}
    assert found.aims == {"peer": 1}


def test_the_time_of_another_process_is_what_it_says():
    found = harness.compare("work", {"peer": lambda: harness.Elsewhere("2.5"), "ours": lambda: None}, aims={}, rounds=1)
    assert found.seconds["peer"] == [2.5] and found.seconds["ours"][0] < 2.5


def test_the_table_counts_what_was_missed_and_a_peer_left_out_is_named_once(capsys):
    suite = harness.Suite()
    suite.groups["Group"] = [made_up(), made_up(aims={"peer": 5.0})]
    assert suite.table().endswith("1 aims reached, 1 missed")
    assert "3.00 [2.00 .. 4.00]   aim 5: MISSED" in suite.table()
    assert not suite.has("no_such_module") and not suite.has("no_such_module") and suite.has("json")
    assert suite.left_out == ["no_such_module"]
    assert capsys.readouterr().out == "left out, not installed: no_such_module\n"


def test_the_slope_of_a_power_law_is_its_exponent_and_its_interval_covers_it_19_times_in_20():
    sizes = [100, 200, 400, 800]
    law = 3e-4 * np.array(sizes) ** 1.5
    exact = slopes.slope(sizes, [law, 2 * law])  # a slower round shifts the line and does not tilt it
    assert exact == pytest.approx((1.5, 1.5, 1.5, 1.5))
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=(400, 5, 4)))
    noisy = [slopes.slope(sizes, law * each) for each in noise]
    assert 0.92 < np.mean([found.low < 1.5 < found.high for found in noisy]) < 0.98
    bent = slopes.slope(sizes, [law + 5, law + 5])  # a fixed overhead
    assert bent.mean < bent.end < 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_peak_memory_is_what_work_takes_and_gives_back():
    found = slopes.peak_memory(lambda: np.ones(8_000_000).sum())  # 64 MB
    if found is None:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 6.0e7 < found < 9e7


def test_the_variants_of_mutual_information_agree():
    t, y = information.layers(2, 3)
    t, y = t[:, ::8], y[::8]
    assert information.difference(information.BINNED, t, y) < 1e-12
    assert information.difference(information.BOUNDS, t, y, 0.1) < 1e-4
    assert information.ours_binned(t, y).std() > 0.01  # there is something to agree on


# ----------------------------------------------------------------------------------- what is stored, and its page


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_the_stored_results_keep_their_schema_and_every_verdict_is_that_of_its_ratio(results):
    schema = json.loads((FOLDER / results["$schema"]).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(results, schema)
    for _, comparison, row in costs.ratios(results):
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"], comparison["title"]
        assert row["reached"] == (None if row["aim"] is None else row["ratio"]["median"] >= row["aim"])
    for one in results["slopes"]:
        sizes = [point["size"] for point in one["points"]]
        assert sizes == sorted(set(sizes)) and one["slope"]["low"] <= one["slope"]["mean"] <= one["slope"]["high"]


def test_the_stored_results_are_those_of_every_benchmark_and_name_no_machine(results):
    from benchmarks.__main__ import GROUPS

    assert [group["title"] for group in results["groups"]] == [module.TITLE for module in GROUPS.values()]
    # A slash only between words of a unit or a name, never the start of a path.
    assert not re.search(r"(?<!\w)/\w|\\|@", json.dumps(results, ensure_ascii=False))


def test_the_pages_prose_about_batching_is_what_was_measured(results):
    comparisons = results["groups"][0]["comparisons"]
    batches, images = comparisons[-2:]
    loops = [
        next(row["ratio"]["median"] for row in comparison["rows"] if row["name"] == "in-memory loop")
        for comparison in comparisons
    ]
    assert batches["title"].startswith("large batches") and images["title"].startswith("large images")
    assert min(loops[:-2]) > 1.5 and max(loops[-2:]) < 1.1
    for comparison in (batches, images):
        (choice,) = [row["ratio"]["median"] for row in comparison["rows"] if row["name"] == "fit, left to choose"]
        assert choice > 1  # going one by one, fit is not faster here
    together, loop = (one for one in results["slopes"] if one["panel"] == "Training, by weights")
    gains = [b["seconds"] / a["seconds"] for a, b in zip(together["points"], loop["points"], strict=True)]
    assert gains[0] > 1.2 and gains[-1] < 1  # the lines meet


def test_the_page_shows_every_row_and_every_slope(results, site):
    page = site.page("book/costs")
    table = (site.html / "book" / "costs.html").read_text(encoding="utf-8")
    for _, comparison, row in costs.ratios(results):
        assert costs.text(comparison["title"]) in table and costs.text(comparison["accuracy"]) in table
        assert costs.text(row["name"]) in table and costs.faster(row) in page.text
    for one in results["slopes"]:
        assert costs.exponent(one) in page.text and html.escape(costs.sentence(one), quote=False) in table
    drawings = len(list(costs.ratios(results))) + len({one["panel"] for one in results["slopes"]})
    assert page.all("svg", key="role") == ["img"] * drawings
    assert results["hardware"] in page.text
    missed = [row for _, _, row in costs.ratios(results) if row["reached"] is False]
    assert page.text.count("was the aim.") == len(missed)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(2, 64, [2, 5, 10, 20, 50]), (1935, 180810, [10000, 100000]), (0.003, 0.02, [0.005, 0.01, 0.02]), (3, 4, [3])],
)
def test_ticks_are_few_and_round(low, high, expected):
    assert costs.ticks(low, high) == pytest.approx(expected)


def test_numbers_and_memory_are_told_in_three_digits_and_fitting_units():
    assert [costs.number(value) for value in (0.0123, 1.234, 56.78, 1234.0)] == ["0.0123", "1.23", "56.8", "1,234"]
    assert [costs.memory(held) for held in (None, 0, 2_500, 64e6, 1.2e9)] == ["–", "–", "2 kB", "64 MB", "1 GB"]
