"""A student in JupyterLab: a real server, a real browser, a chapter run by the menu and a control moved by hand."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import toys

from lessons_lib import notebooks

NOTEBOOK = "book/w1-toys/toy.ipynb"
TOKEN = "of-this-test-alone"
START_LIMIT = 90  # seconds; it takes some 5 alone, and this machine may be busy


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a toy chapter that was never run; the address of the notebook."""
    book = toys.make_book(tmp_path / "book", toy=toys.notebook(toys.PAGE))
    notebooks.rewrite(book / NOTEBOOK)  # as stored: a chapter names its kernel, and nobody is asked for one
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {name: str(tmp_path / name) for name in ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={book}", "--ServerApp.port_retries=0"]
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=output)
    try:
        for _ in range(START_LIMIT):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        else:
            pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


def test_a_chapter_runs_from_the_menu_and_its_figure_moves(lab, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 2400})
    page.set_default_timeout(60_000)
    page.goto(lab)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    assert page.locator(".jp-OutputArea-output").count() == 0  # it has not been run
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # asked sooner, it asks back for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()

    verdicts = page.locator(".jp-OutputArea .claims")
    verdicts.wait_for()
    assert re.search("held", verdicts.inner_text()) and re.search("failed", verdicts.inner_text())
    shown = page.locator(".jp-OutputArea .jupyter-widgets figure:visible")
    shown.locator("img").wait_for()
    before = shown.locator("img").get_attribute("src"), shown.inner_text()
    page.locator(".jp-OutputArea .widget-slider .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => ![...document.images].some(i => i.checkVisibility() && i.src === before)", arg=before[0]
    )
    assert (shown.locator("img").get_attribute("src"), shown.inner_text()) != before
    assert "Depth 4" in shown.inner_text()
    page.close()
