"""Fetch, or check, the JavaScript that the site serves itself.

    python tools/vendor.py            fetch the versions named below and rewrite book/webstatic/vendor
    python tools/vendor.py --check    compare every vendored file with its recorded checksum (no network)

To move to another version, change it in PACKAGES, run the first command, look at the built site, commit.
Fetching goes through ``npm pack``, which verifies what it downloads against the registry npm is set up for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "book" / "webstatic" / "vendor"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Package:
    """One npm package: ``take`` maps a pattern inside it to the folder its files go to.

    ``keep`` names files of ours beside them that the package itself lacks (a licence text).
    """

    name: str
    version: str
    licence: str
    folder: str
    take: dict[str, str]
    keep: tuple[str, ...] = ()


PACKAGES = (
    # The module loader that the widget manager is written for.
    Package("requirejs", "2.3.7", "MIT", "requirejs", {"require.js": ""}, keep=("LICENSE",)),
    # Draws the stored widgets. Of its icon fonts browsers of today read the woff2 files alone.
    Package(
        "@jupyter-widgets/html-manager",
        "1.0.14",
        "BSD-3-Clause (its icon fonts, Font Awesome: OFL-1.1)",
        "@jupyter-widgets/html-manager",  # it looks for its fonts by this path
        {
            "dist/embed-amd.js": "dist",
            "dist/*.woff2": "dist",
            "LICENSE": "",
            "dist/embed.js.LICENSE.txt": "",  # notices of what is bundled inside
        },
    ),
    # The extensions are loaded one by one when a formula first uses a macro of theirs.
    Package(
        "mathjax",
        "3.2.2",
        "Apache-2.0",
        "mathjax",
        {
            "es5/tex-chtml.js": "",
            "es5/input/tex/extensions/[!a]*.js": "input/tex/extensions",
            "es5/input/tex/extensions/a[!l]*.js": "input/tex/extensions",  # all but all-packages.js
            "es5/output/chtml/fonts/woff-v2/*.woff": "output/chtml/fonts/woff-v2",
            "LICENSE": "",
        },
    ),
    # Shows a chapter's slides. Their look is deck.css: the package's own themes bring fonts along.
    Package(
        "reveal.js",
        "6.0.2",
        "MIT (its notes plugin bundles marked: MIT)",
        "reveal.js",
        {"dist/reveal.js": "", "dist/reveal.css": "", "dist/plugin/notes.js": "", "LICENSE": ""},
    ),
)


def sha256(path: Path) -> str:
    """The file's SHA-256 as hexadecimal text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problems(vendor: Path = VENDOR) -> list[str]:
    """What differs between the vendored files and their manifest; empty when nothing does."""
    try:
        manifest = json.loads((vendor / MANIFEST).read_text())
        recorded = {
            f"{package['folder']}/{name}": digest
            for package in manifest["packages"]
            for name, digest in package["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{vendor / MANIFEST} cannot be read ({error}); run: python tools/vendor.py"]
    present = {path.relative_to(vendor).as_posix() for path in vendor.rglob("*") if path.is_file()}
    found = [f"missing: {name}" for name in sorted(recorded.keys() - present)]
    found += [f"not in the manifest: {name}" for name in sorted(present - recorded.keys() - {MANIFEST})]
    found += [
        f"changed: {name}" for name in sorted(recorded.keys() & present) if sha256(vendor / name) != recorded[name]
    ]
    wanted = {(package.name, package.version) for package in PACKAGES}
    held = {(package["name"], package["version"]) for package in manifest["packages"]}
    found += [f"not fetched yet: {name} {version}" for name, version in sorted(wanted - held)]
    found += [f"no longer listed: {name} {version}" for name, version in sorted(held - wanted)]
    return found


def fetch(package: Package, vendor: Path, scratch: Path) -> None:
    """Replace the package's folder under ``vendor`` by its files as npm has them.

    Raises RuntimeError naming the package where npm fails or a pattern finds nothing.
    """
    wanted = f"{package.name}@{package.version}"
    packed = subprocess.run(["npm", "pack", wanted, "--pack-destination", str(scratch)], capture_output=True, text=True)
    if packed.returncode:
        raise RuntimeError(f"npm could not fetch {wanted}:\n{packed.stderr.strip()}")
    with tarfile.open(scratch / packed.stdout.split()[-1]) as archive:
        archive.extractall(scratch / package.folder, filter="data")
    source = scratch / package.folder / "package"
    target = vendor / package.folder
    kept = {name: (target / name).read_bytes() for name in package.keep}
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in kept.items():
        (target / name).write_bytes(content)
    for pattern, folder in package.take.items():
        files = sorted(source.glob(pattern))
        if not files:
            raise RuntimeError(f"{wanted} has no file like {pattern}; has its layout changed?")
        (target / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, target / folder / file.name)


def write_manifest(vendor: Path) -> None:
    """Record name, version, licence and checksums of everything fetched."""
    packages = [
        {
            "name": package.name,
            "version": package.version,
            "licence": package.licence,
            "folder": package.folder,
            "files": {
                path.relative_to(vendor / package.folder).as_posix(): sha256(path)
                for path in sorted((vendor / package.folder).rglob("*"))
                if path.is_file()
            },
        }
        for package in PACKAGES
    ]
    (vendor / MANIFEST).write_text(json.dumps({"packages": packages}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the manifest; change nothing")
    if not parser.parse_args(arguments).check:
        if shutil.which("npm") is None:
            print("npm is not on this machine; it is needed to fetch (not to check).", file=sys.stderr)
            return 1
        try:
            for package in PACKAGES:
                with tempfile.TemporaryDirectory() as scratch:
                    fetch(package, VENDOR, Path(scratch))
                print(f"fetched {package.name} {package.version}")
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        write_manifest(VENDOR)
    found = problems()
    print("\n".join(found) or f"{VENDOR.name}: every file has its recorded checksum")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
