"""torchvision imports beside any build of torch, and is left alone where its operators load."""

import os
import subprocess
import sys
import textwrap

import pytest


def run(code, path=None):
    """Run ``code`` in a fresh interpreter, since an import happens once; ``path`` goes before the others."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    code = "from lessons_lib import torchvision_compat as compat\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def stand_in(tmp_path):
    """Makes a package called torchvision that registers its operator as the real one does."""

    def make(before=""):
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "datasets.py").touch()
        (tmp_path / "torchvision" / "__init__.py").write_text(
            f"import torch\n{before}\ntorch.library.register_fake('torchvision::nms')(lambda *args: None)\n"
        )
        return tmp_path

    return make


def test_the_installed_torchvision_imports():
    out = run("""
        compat.import_torchvision("datasets").MNIST
        compat.import_torchvision("transforms").Normalize
        compat.import_torchvision("models").resnet18
        import torchvision
        print(bool(compat._libraries) != torchvision.extension._has_ops())
    """)
    assert out == ["True"]


def test_operators_that_did_not_load_are_declared(stand_in):
    out = run("""
        print(compat.import_torchvision("datasets").__name__, len(compat._libraries))
        import torch
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            print("calling fails")
    """, stand_in())  # fmt: skip
    assert out == ["torchvision.datasets", "1", "calling", "fails"]


def test_nothing_is_declared_where_the_operators_exist(stand_in):
    loaded = """
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
    out = run("print(compat.import_torchvision().__name__, len(compat._libraries))", stand_in(loaded))
    assert out == ["torchvision", "0"]


def test_another_failure_is_not_hidden(stand_in):
    out = run("""
        try:
            compat.import_torchvision()
        except RuntimeError as error:
            print(error, len(compat._libraries))
    """, stand_in("raise RuntimeError('other')"))  # fmt: skip
    assert out == ["other", "0"]
