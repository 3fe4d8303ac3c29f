"""What chapters cost at paper scale: a row for each, from the chapters' own sizes; times by the stated rates."""

import copy
import sys

import nbformat
import pytest
import yaml
from toys import ROOT

from lessons_lib import board, models, notebooks, records

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
sys.path.insert(0, str(ROOT / "tools"))
import measure_rates
import scale_table

LAPTOP = {"name": "a", "cores": 2, "gpu": 1e9, "thin": 1e8, "call": 1e-5, "memory_gb": 16}
CORE = {"gpu": 5e8, "thin": 5e7, "cpu": 3e8, "float64": 2e8}
TRAINING = {
    "what": "t", "rate": "gpu", "runs": 5, "epochs": 10, "samples": 1_001, "batch": 100, "multiply_adds": 1_000,
    "layers": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def stems():
    return {row["chapter"] for part in board.course(ROOT) for row in part["rows"]}


@pytest.fixture(scope="module")
def found(stems):
    return scale_table.read_scale(ROOT, stems)


def test_every_chapter_has_a_row(found):
    assert set(found["chapters"]) == {chapter.name for chapter in notebooks.chapters(ROOT)}


@pytest.mark.parametrize("chapter", notebooks.chapters(ROOT), ids=lambda chapter: chapter.name)
def test_the_estimate_rests_on_the_sizes_that_the_chapter_has(chapter, found):
    cells = nbformat.read(chapter.path, 4).cells
    (source,) = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    there = {"scale": lambda *, lesson, paper: paper}
    exec(source, there)
    stated = found["chapters"][chapter.name]["parameters"]
    assert stated == {name: there.get(name) for name in stated}


def test_arithmetic_calls_and_times_follow_from_a_part():
    assert scale_table.flops(TRAINING) == 6 * 1_000 * 5 * 10 * 1_001
    evaluated = TRAINING | {"evaluations": 3, "tests": 99}
    assert scale_table.flops(evaluated) - scale_table.flops(TRAINING) == 2 * 1_000 * 5 * 3 * 1_100
    assert scale_table.calls(TRAINING) == 5 * 10 * 11 * 52  # one by one
    assert scale_table.calls(TRAINING | {"fits": 1}) == 10 * 11 * 52
    together = TRAINING | {"fits": 1}
    assert scale_table.seconds(together, LAPTOP, CORE) == pytest.approx(0.3003)  # the arithmetic takes longer
    assert scale_table.seconds(TRAINING, LAPTOP, CORE) == pytest.approx(0.3003)
    assert scale_table.seconds(TRAINING | {"multiply_adds": 10}, LAPTOP, CORE) == pytest.approx(0.286)  # the calls do
    for rate, seconds in {"gpu": 1, "thin": 10, "cpu": 1 / 0.6, "float64": 2.5}.items():
        part = {"what": "w", "rate": rate, "flops": 1e9}
        assert scale_table.seconds(part, LAPTOP, CORE) == pytest.approx(seconds)
    assert scale_table.seconds({"what": "w", "core_seconds": 10}, LAPTOP, CORE) == 5
    assert scale_table.seconds({"what": "w", "serial_seconds": 10}, LAPTOP, CORE) == 10


def test_processor_rates_are_those_of_a_core(found):
    laptop = found["machines"][0]
    assert [laptop[kind] for kind in ("gpu", "thin")] == [found["core"][kind] * 3 for kind in ("gpu", "thin")]
    assert laptop["cores"] == 3


@pytest.mark.parametrize(
    ("stem", "what", "build", "shape"),
    [
        ("rethinking-generalization", "Inception", models.small_inception, (3, 28, 28)),
        ("rethinking-generalization", "AlexNet", models.small_alexnet, (3, 28, 28)),
        ("large-batch", "C1", models.batch_norm_alexnet, (3, 32, 32)),
        ("gradient-noise", "twenty layers", lambda: models.mlp(784, *[50] * 20, 10), (784,)),
    ],
)
def test_multiply_adds_are_those_of_the_networks(stem, what, build, shape, found):
    (part,) = [part for part in found["chapters"][stem]["parts"] if part["what"] == what]
    assert part["multiply_adds"] == measure_rates.multiply_adds(build(), shape)


def test_times_have_one_digit_and_the_unit_that_suits_them():
    day = 86_400
    told = [30, 100, 44 * 60, 3 * 3_600 + 100, 30 * 3_600, 3.4 * day, 44 * day, 200 * day, 800 * day]
    expected = ["a minute or less", "2 min", "40 min", "3 h", "30 h", "3 days", "40 days", "7 months", "2 years"]
    assert [scale_table.time(seconds) for seconds in told] == expected
    assert [scale_table.measured_time(seconds) for seconds in (20, 1_474.6, 5_000)] == ["20 s", "25 min", "1 h 23 min"]


def test_estimates_and_measurements_are_marked_in_signs_and_words(found):
    row = scale_table.estimated_row(found["chapters"]["large-batch"], found)
    assert row.count(scale_table.ESTIMATED) == row.count("estimated") / 2 == 1 + len(found["machines"])
    assert scale_table.MEASURED not in row and "too little memory" in row
    run = {
        "parameters": {"n": 1}, "seconds": 90.0, "peak_memory_mb": 2_880, "machine": "A machine", "threads": 1,
        "data": [{"name": "MNIST", "n_train": 5_000, "n_test": 2_000}],
    }  # fmt: skip
    row = scale_table.measured_row(records.Record("r", run, {}), "page.html#r", 3)
    assert row.count(scale_table.MEASURED) == 2 and scale_table.ESTIMATED not in row
    for text in ("2 min", "2.9 GB", "A machine, 1 thread", "MNIST, 5,000 + 2,000", "Smaller than", 'colspan="3"'):
        assert text in row


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda f: f["chapters"].update(nowhere=f["chapters"]["background"]), "the book has not: nowhere"),
        (lambda f: f["chapters"]["background"].pop("memory_gb"), "background lacks memory_gb"),
        (lambda f: f["chapters"]["background"]["parts"][0].pop("runs"), "background, part 'twins' lacks runs"),
        (
            lambda f: f["chapters"]["background"]["parts"][0].update(step=1),
            "part 'twins' has step, which means nothing",
        ),
        (lambda f: f["chapters"]["background"]["parts"][0].update(rate="tpu"), "has the rate 'tpu'; there are: gpu"),
        (lambda f: f["chapters"]["background"]["parts"][0].update(epochs="9"), "epochs of background.*not a positive"),
        (lambda f: f["machines"][0].pop("call"), "lacks call"),
    ],
)
def test_a_bad_file_is_refused_with_one_message(tmp_path, stems, found, spoil, complaint):
    spoiled = copy.deepcopy(found)
    spoil(spoiled)
    (tmp_path / "book").mkdir()
    (tmp_path / scale_table.FILE).write_text(yaml.safe_dump(spoiled))
    with pytest.raises(scale_table.ScaleError, match=complaint):
        scale_table.read_scale(tmp_path, stems)
