"""Search the hyper-parameters of teacher and students in the chapter deep-and-convolutional: equally many trials each.

    pip install optuna
    python tools/search_students.py            every cell, on two processes, some 15 minutes on two cores
    python tools/search_students.py --trials 5 a taste, which is printed and not stored

The teacher is searched first, on labels, and the best one teaches the students of the search. Each kind of
student (convolutions, hidden layers, weights, targets) has a search of its own by optuna's
tree-structured Parzen estimator, judged by the worse of two seeds, so that no rate is chosen that sometimes
fails, on signals that neither the students nor the chapter see. The result goes to
lessons_lib/studies/students.json, which the chapter reads.
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import joblib

from lessons_lib import data
from lessons_lib.settings import seed_for, seeds
from lessons_lib.studies import students
from lessons_lib.studies.students import Cell, Trial

BUDGETS = (2_500, 10_000, 40_000)
MIDDLE = 10_000
N_LABELLED, N_TRANSFER, N_VALIDATION = 2_500, 5_000, 1_000
STEPS = 1_000
TEACHER = Cell(n_conv=3, n_hidden=None, budget=20_000, targets="labels")
RANGES = {"lr": (1e-3, 1e-1), "weight_decay": (1e-6, 1e-2), "dropout": (0.0, 0.4)}
CHANNELS = (4, 8, 12, 16)
MOST_HIDDEN = 2  # hidden layers after convolutions
BASE = 20_171  # the search draws from a seed of its own, whatever LESSONS_SEED is


def cells() -> list[Cell]:
    """Every kind of student."""
    kinds = [(0, hidden) for hidden in (1, 2, 3, 4)] + [(conv, None) for conv in (1, 2, 3, 4)]
    found = [Cell(*kind, budget) for budget in BUDGETS for kind in kinds]
    return found + [Cell(*kind, MIDDLE, "labels") for kind in kinds]


def choices_of_channels(cell: Cell) -> list[int]:
    """Numbers of channels whose convolutions leave the cell's budget room for hidden layers."""
    found = []
    for channels in CHANNELS if cell.n_conv else ():
        with suppress(ValueError):  # these convolutions alone are over the budget
            Trial(cell.n_conv, MOST_HIDDEN, cell.budget, channels, lr=0.0, weight_decay=0.0, dropout=0.0).build()
            found.append(channels)
    return found or [0]


def search(cell: Cell, n_trials: int, sets: dict) -> list[Trial]:
    """The trials of one cell."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    draws, channels = seeds(2, "search", cell, base=BASE), choices_of_channels(cell)

    def objective(trial):
        drawn = Trial(
            n_conv=cell.n_conv,
            n_hidden=cell.n_hidden or trial.suggest_int("n_hidden", 1, MOST_HIDDEN),
            budget=cell.budget,
            channels=trial.suggest_categorical("channels", channels),
            lr=trial.suggest_float("lr", *RANGES["lr"], log=True),
            weight_decay=trial.suggest_float("weight_decay", *RANGES["weight_decay"], log=True),
            dropout=trial.suggest_float("dropout", *RANGES["dropout"]),
        )
        runs = students.train(drawn, sets[cell.targets], seeds=draws, steps=STEPS)
        models = [runs.model("all", seed) for seed in draws]
        reached = students.accuracy(models, sets["labels"].x_test, sets["labels"].y_test).min().item()
        made.append(replace(drawn, accuracy=round(reached, 4), lr=_short(drawn.lr), dropout=_short(drawn.dropout)))
        return reached

    made: list[Trial] = []
    sampler = optuna.samplers.TPESampler(seed=seed_for("sampler", cell, base=BASE) % 2**32)
    optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, n_trials)
    print(f"{cell}: {students.best(made).accuracy:.3f}", flush=True)
    return [replace(trial, weight_decay=_short(trial.weight_decay)) for trial in made]


def prepare(n_trials: int) -> tuple[dict, list[Trial]]:
    """The data of both kinds of targets, and the teacher's trials.

    The teacher is an ensemble of four networks of the best trial, trained on the labelled signals.
    """
    whole = data.load("mnist1d", n_train=N_TRANSFER, n_test=N_VALIDATION, seed=seed_for("data", base=BASE) % 2**32)
    labelled = replace(whole, x_train=whole.x_train[:N_LABELLED], y_train=whole.y_train[:N_LABELLED])
    tried = search(TEACHER, n_trials, {"labels": labelled})
    own = seeds(4, "teacher", base=BASE)
    runs = students.train(students.best(tried), labelled, seeds=own, steps=STEPS)
    said = students.standardized(students.logits([runs.model("all", seed) for seed in own], whole.x_train).mean(0))
    # Only the inputs of the test set enter the training of a student on logits.
    logits = replace(whole, y_train=said, x_test=whole.x_test[:10], y_test=said[:10])
    return {"labels": labelled, "logits": logits}, tried


def _short(value: float) -> float:
    return float(f"{value:.3g}") if math.isfinite(value) else value


def main() -> None:
    """Search every cell, and store the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=None, help="trials a cell; nothing is stored if given")
    n_trials = (chosen := parser.parse_args().trials) or 25
    kinds = cells()
    sets, teacher = prepare(n_trials)
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(search)(cell, n_trials, sets) for cell in kinds)
    if chosen:
        return
    import optuna

    settings = {
        "data": "mnist1d", "labelled": N_LABELLED, "transfer": N_TRANSFER, "validation": N_VALIDATION,
        "steps": STEPS, "trials": n_trials, "seeds a trial": 2, "base seed": BASE,
        "ranges": RANGES | {"channels": (CHANNELS[0], CHANNELS[-1])},
        "sampler": f"optuna {optuna.__version__}, TPESampler",
    }  # fmt: skip
    path = Path(students.__file__).with_name("students.json")
    record = students.as_record({TEACHER: teacher} | dict(zip(kinds, found, strict=True)), settings)
    # One line a trial: a search repeated shows in a diff what changed.
    text = json.dumps(record, indent=1).replace("\n     ", " ").replace("\n    }", " }")
    path.write_text(text + "\n", encoding="utf-8")
    print(f"stored in {path.name}")


if __name__ == "__main__":
    main()
