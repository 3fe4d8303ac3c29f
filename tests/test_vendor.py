"""The vendored JavaScript: what is recorded is what is there, and fetching takes what it says."""

import importlib.util
import json
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def vendor():
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "tools" / "vendor.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["vendor"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["vendor"]


@pytest.fixture
def copy(vendor, tmp_path):
    return Path(shutil.copytree(vendor.VENDOR, tmp_path / "vendor"))


def test_every_vendored_file_has_its_recorded_checksum(vendor):
    assert vendor.problems() == []
    assert vendor.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "requirejs/require.js").write_text("alert()"), "changed: requirejs/require.js"),
        (lambda folder: (folder / "mathjax/LICENSE").unlink(), "missing: mathjax/LICENSE"),
        (lambda folder: (folder / "extra.js").write_text(""), "not in the manifest: extra.js"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
    ],
)
def test_what_differs_is_named(vendor, copy, spoil, said):
    spoil(copy)
    assert said in "\n".join(vendor.problems(copy))


def test_a_version_not_fetched_yet_is_named(vendor, copy, monkeypatch):
    newer = vendor.Package("requirejs", "9.9.9", "MIT", "requirejs", {"require.js": ""})
    monkeypatch.setattr(vendor, "PACKAGES", (newer, *vendor.PACKAGES[1:]))
    assert vendor.problems(copy) == ["not fetched yet: requirejs 9.9.9", "no longer listed: requirejs 2.3.7"]


def test_each_package_has_its_licence_beside_it(vendor):
    manifest = json.loads((vendor.VENDOR / "manifest.json").read_text())
    for package in manifest["packages"]:
        assert package["licence"]
        assert len((vendor.VENDOR / package["folder"] / "LICENSE").read_text()) > 500


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """An npm that packs one package of two files, and knows no other."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "new.js").write_text("new")
    (package / "README").write_text("not asked for")
    with tarfile.open(tmp_path / "thing.tgz", "w:gz") as archive:
        archive.add(package, "package")
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$2" = thing@1.0 ] || { echo "no $2" >&2; exit 1; }\n'
        f'cp {tmp_path}/thing.tgz "$4"\necho thing.tgz\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


def fetch(vendor, tmp_path, version="1.0", take=None):
    target = tmp_path / "target"
    (target / "thing").mkdir(parents=True)
    (target / "thing" / "LICENSE").write_text("ours")
    (target / "thing" / "old.js").write_text("old")
    (tmp_path / "scratch").mkdir()
    package = vendor.Package("thing", version, "MIT", "thing", take or {"*.js": "dist"}, keep=("LICENSE",))
    vendor.fetch(package, target, tmp_path / "scratch")
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def test_fetching_takes_what_is_asked_for_and_leaves_nothing_old(vendor, npm, tmp_path):
    assert fetch(vendor, tmp_path) == ["thing/LICENSE", "thing/dist/new.js"]


def test_what_npm_does_not_have_is_named(vendor, npm, tmp_path):
    with pytest.raises(RuntimeError, match=r"npm could not fetch thing@2\.0:\nno thing@2\.0"):
        fetch(vendor, tmp_path, version="2.0")


def test_a_package_that_changed_its_layout_is_named(vendor, npm, tmp_path):
    with pytest.raises(RuntimeError, match=r"thing@1\.0 has no file like lib/\*\.js"):
        fetch(vendor, tmp_path, take={"lib/*.js": ""})
