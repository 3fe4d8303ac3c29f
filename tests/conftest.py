"""What several files of tests share: the built site, its address, and a browser with no network."""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import toys
import yaml
from filelock import FileLock
from nbclient import NotebookClient
from sites import PREFIX, TOY, Quiet, Site, add_to_contents, build, copy_book, settle

from lessons_lib import notebooks


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The book with a toy chapter, listed in the course's table and in the table of contents.

    The first of the processes that run tests builds it, for all of them.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    built = shared / "site.json"
    with FileLock(shared / "site.lock"):
        if not built.exists():
            made = site_with_toy(tmp_path_factory.mktemp("site"))
            built.write_text(json.dumps({"source": str(made.source), "seconds": made.seconds}))
    known = json.loads(built.read_text())
    return Site(Path(known["source"]), known["seconds"])


def site_with_toy(folder: Path) -> Site:
    source = copy_book(folder, chapters=True)
    toy = toys.notebook(toys.PAGE)
    NotebookClient(toy, timeout=60, kernel_name="python3").execute()
    notebooks.write(toy, source / f"{TOY}.ipynb")
    add_to_contents(source, TOY)
    course = yaml.safe_load((source / "book" / "course.yml").read_text())
    row = {"paper": "Toys", "venue": "T", "url": "https://example.org", "chapter": "toy", "question": "Is it fun?"}
    course[0]["rows"].append(row)
    (source / "book" / "course.yml").write_text(yaml.safe_dump(course))
    return build(source)


@pytest.fixture(scope="session")
def base(site, tmp_path_factory):
    """The address of the site, served below a sub-path as a project's site is."""
    folder = tmp_path_factory.mktemp("served")
    (folder / PREFIX).parent.mkdir(parents=True)
    (folder / PREFIX).symlink_to(site.html)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{PREFIX}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, its network shut but for this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"No browser to try the site in: none of {', '.join(names)} is installed."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        shut = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", shut]
        launched = playwright.chromium.launch(executable_path=found, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, base):
    """``visit(name, mode)`` opens a page and waits until it is drawn; whatever goes wrong is in ``wrong``."""
    contexts, wrong = {}, []

    def open_page(name: str, mode: str = "light", scripts: bool = True):
        if (mode, scripts) not in contexts:
            contexts[mode, scripts] = browser.new_context(color_scheme=mode, java_script_enabled=scripts)
        page = contexts[mode, scripts].new_page()

        def note(what):
            wrong.append(f"{name} ({mode}): {what}")

        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: note(error))
        page.on("requestfailed", lambda request: note(f"failed: {request.url}"))
        page.on("response", lambda answer: note(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((base, "data:", "blob:")) else note(request.url),
        )
        page.goto(base + name)
        if scripts:
            settle(page)
        return page

    open_page.wrong = wrong
    yield open_page
    for context in contexts.values():
        context.close()
