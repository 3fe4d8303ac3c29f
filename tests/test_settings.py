"""Settings: what is refused and how, and seeds that differ by name, by base seed, and by nothing else."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from lessons_lib import settings as module
from lessons_lib.settings import Settings, SettingsError


def test_defaults_and_empty_variables():
    assert Settings.from_environment({}) == Settings() == Settings.from_environment({"LESSONS_SEED": ""})


def test_every_variable_is_read():
    read = Settings.from_environment(
        {
            "LESSONS_SCALE": "paper",
            "LESSONS_SEED": "12",
            "LESSONS_DATA": "/images",
            "LESSONS_DEVICE": "cpu",
            "LESSONS_ENGINE": "processes",
            "LESSONS_PRECISION": "full",
            "LESSONS_CACHE": "/kept",
            "LESSONS_THREADS": "2",
        }
    )
    assert (read.scale, read.seed, str(read.data), read.engine) == ("paper", 12, "/images", "processes")
    assert (read.precision, str(read.cache), read.threads) == ("full", "/kept", 2)
    assert Settings.from_environment({"LESSONS_ENGINE": "tcp://10.0.0.1:8786"}).engine == "tcp://10.0.0.1:8786"
    assert str(read) == "scale paper · seed 12 · device cpu · engine processes"


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("LESSONS_SCALE", "Paper", "lesson, paper"),
        ("LESSONS_DEVICE", "gpu", "auto, cpu, cuda, mps"),
        ("LESSONS_ENGINE", "dusk", "serial, processes"),
        ("LESSONS_ENGINE", "tcp://host", "the address of a Dask scheduler"),
        ("LESSONS_ENGINE", "http://host:80", "the address of a Dask scheduler"),
        ("LESSONS_PRECISION", "half", "full, mixed"),
        ("LESSONS_SEED", "-1", "0 to 4294967295"),
        ("LESSONS_SEED", "4294967296", "0 to 4294967295"),
        ("LESSONS_SEED", "one", "0 to 4294967295"),
        ("LESSONS_THREADS", "0", "1 to 1024"),
    ],
)
def test_unknown_values_are_refused_with_the_allowed_ones(name, value, allowed):
    with pytest.raises(SettingsError, match=f"{name} is '{value}'; it must be .*{allowed}"):
        Settings.from_environment({name: value})


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert Settings(device_choice="auto").device == torch.device("cpu")
    with pytest.raises(SettingsError, match="'cuda', but this machine has only: cpu"):
        _ = Settings(device_choice="cuda").device


def test_auto_prefers_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert Settings().device == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Settings().device == torch.device("cuda")


def test_scale_picks_by_the_scale_in_force(monkeypatch):
    assert module.scale(lesson=1, paper=2) == 1
    monkeypatch.setattr(module, "settings", Settings(scale="paper"))
    assert module.scale(lesson=1, paper=2) == 2


def test_seeds_differ_by_name_index_and_base():
    drawn = [
        *module.seeds(50, "weights"),
        *module.seeds(50, "labels"),
        *module.seeds(50, "weights", base=1),
        module.seed_for("weights"),
        module.seed_for("a", "b"),
        module.seed_for("ab"),
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_generators_do_not_disturb_each_other_or_the_global_state():
    torch.manual_seed(0)
    expected_torch, expected_numpy = torch.rand(3), np.random.get_state()[1].copy()
    torch.manual_seed(0)
    first = torch.rand(5, generator=module.torch_generator("x"))
    torch.rand(100, generator=module.torch_generator("y"))
    assert torch.equal(torch.rand(5, generator=module.torch_generator("x")), first)
    module.numpy_generator("x").random(10)
    assert torch.equal(torch.rand(3), expected_torch)
    assert np.array_equal(np.random.get_state()[1], expected_numpy)


def test_seeds_are_the_same_in_another_process():
    """Stored chapters depend on it: nothing may come from Python's hash, which is salted a process."""
    code = (
        "from lessons_lib.settings import seed_for, numpy_generator;"
        "print(seed_for('x', 3), numpy_generator('x').integers(9**9))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert outputs == {f"{module.seed_for('x', 3)} {module.numpy_generator('x').integers(9**9)}\n"}


@pytest.mark.parametrize("environment, threads", [({}, "1"), ({"LESSONS_THREADS": "3"}, "3")])
def test_threads_are_fixed_before_numpy_loads(environment, threads):
    code = "import lessons_lib, os, sys; assert 'numpy' not in sys.modules; print(os.environ['OMP_NUM_THREADS'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == threads
