"""Chapter 1 in JupyterLab, in a real headless browser: it runs to its end, and its widget does what it says.

No pixel is looked at: everything is asserted on text that a reader can read. Skipped, with the reason, where
there is no Chromium or Chrome. Nothing waits for a time: each step waits for what it needs, on a slow machine
too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")]
BROWSER = next(filter(None, BROWSERS), None)
WITHOUT = "no Chromium or Chrome on this machine: on Debian, apt install chromium"
pytestmark = [pytest.mark.skipif(BROWSER is None, reason=WITHOUT),
              pytest.mark.timeout(1800)]
WAIT = 600_000  # milliseconds for what is waited for: a last resort against hanging
IDLE = "#jp-main-statusbar :text('| Idle')"  # the circle in the toolbar says so before there is a kernel, too
FAILED = "[data-mime-type='application/vnd.jupyter.error']"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def notebook():
    """What is opened. Another chapter's test file has a fixture of this name of its own."""
    return ROOT / "chapters" / "01_one_gradient.ipynb"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, notebook):
    """A JupyterLab of its own, on a copy of the notebook, its settings in a temporary folder, with a kernel.

    Yields the notebook's address. The copy has no outputs and no counts: what a test sees is this run's.
    """
    home = tmp_path_factory.mktemp("lab")
    copy = nbformat.read(notebook, 4)
    for cell in code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(copy, home / "chapter.ipynb")
    # Keep cells that are scrolled away in the page.
    for plugin, setting in (("apputils-extension/notification",
                             {"fetchNews": "false", "checkForUpdates": False}),
                            ("notebook-extension/tracker", {"windowingMode": "none"})):
        file = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Beside other work, threads that wait for each other are slower than one.
    env = {**os.environ,
           "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
           "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
           "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
           "JUPYTER_CONFIG_DIR": str(home / "config"),
           "IPYTHONDIR": str(home / "ipython"),
           "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=local", f"--ServerApp.root_dir={home}"]
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        while not answers(f"http://127.0.0.1:{port}"):  # its log says that it runs before it does
            assert not ends(server), (home / "log").read_text()[-2000:]
        start_kernel(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/lab/tree/chapter.ipynb?token=local"
    finally:
        server.terminate()
        if not ends(server, 60):
            server.kill()


def answers(address: str) -> bool:
    """Whether the server listens; one that listens is waited for."""
    try:
        urllib.request.urlopen(f"{address}/api?token=local", timeout=WAIT / 1000).close()
        return True
    except urllib.error.URLError:
        return False


def ends(process, seconds: float = 0.2) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def code_cells(notebook) -> list:
    """A notebook's cells of code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def start_kernel(address: str) -> None:
    """Let the server start the notebook's kernel: a page that comes before any is listed asks for one."""
    name = "chapter.ipynb"
    session = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
    ask = urllib.request.Request(f"{address}/api/sessions?token=local", json.dumps(session).encode(),
                                 {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=WAIT / 1000) as answer:
        assert json.load(answer)["kernel"]["id"]


@pytest.fixture(scope="module")
def page(lab, notebook):
    """The notebook, opened and run from top to bottom, its kernel idle again."""
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(WAIT)
        page.goto(lab)
        run_all(page, len(code_cells(nbformat.read(notebook, 4))))
        page.locator(".jp-OutputArea [role=status]").first.wait_for()  # the widget
        yield page
        browser.close()


def run_all(page, cells: int) -> None:
    """Run all cells, and wait until the last one has its number and the kernel is idle, or a cell has failed.

    A click on the widget waits for all cells still to run. Idle alone is also shown before the first begins.
    """
    page.locator(IDLE).first.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item:not(.lm-mod-disabled)").get_by_text("Run All Cells", exact=True).click()
    last, failed = page.locator(".jp-InputPrompt", has_text=f"[{cells}]:"), page.locator(FAILED)
    last.or_(failed).first.wait_for(state="attached")
    assert failed.count() == 0, failed.first.inner_text()
    page.locator(IDLE).first.wait_for()


def readout(page) -> str:
    return page.locator("[role=status]", has_text="Steps taken").inner_text()


def select(page, label: str, option: str) -> None:
    page.locator(".widget-dropdown",
                 has=page.get_by_text(label, exact=True)).locator("select").select_option(label=option)


def choose(page, x: str, y: str, F: str, name: str, steps: int) -> str:
    """Start again, choose, press "50 steps" until so many are taken, and return what is read.

    `name`: what the widget calls the choice.

    Each is waited for: the page holds changed choices back while the kernel is busy, and clicks overtake
    them.
    """
    page.get_by_role("button", name="start again").click()
    page.get_by_text("Steps taken: 0.").wait_for()
    for label, option in (("who makes x", x), ("who makes y", y), ("F", F)):
        select(page, label, option)
    page.get_by_text(f"This is {name}").wait_for()
    for taken in range(50, steps + 1, 50):
        page.get_by_role("button", name="50 steps").click()
        page.get_by_text(f"Steps taken: {taken}.").wait_for()
    return readout(page)


def probability(text: str, prompt: int, answer: str) -> float:
    return float(re.search(rf"{answer} ([\d.]+)", text.splitlines()[1 + prompt])[1])


def test_widget_supervised_ends_at_what_people_wrote(page):
    text = choose(page, "data", "data", "1", "supervised learning.", 300)
    # 300 exact steps of rate 1 leave less than 0.01 to go on three answers.
    assert probability(text, 0, "cat") == pytest.approx(0.6, abs=0.01)
    assert probability(text, 1, "parrot") == pytest.approx(0.5, abs=1e-3), "the second prompt is never asked"


def test_widget_dagger_moves_the_second_prompt_and_cloning_does_not(page):
    cloned = choose(page, "data", "an expert's correction", "1", "cloning an expert", 200)
    dagger = choose(page, "the model's own visits", "an expert's correction", "1", "DAgger", 200)
    assert probability(cloned, 1, "cat") == pytest.approx(0.2, abs=1e-3)
    assert probability(dagger, 1, "cat") > 0.5


def test_widget_without_a_filter_nothing_moves(page):
    text = choose(page, "data", "the model itself", "1", "learning from yourself without a filter", 100)
    assert probability(text, 0, "dog") == pytest.approx(0.5, abs=1e-3)


def test_widget_says_why_a_choice_makes_no_sense(page):
    choose(page, "data", "data", "1", "supervised learning.", 0)
    select(page, "F", "±β·σ(−βh)")
    page.get_by_text("This is a choice without a name").wait_for()
    page.get_by_role("button", name="1 step").click()
    page.get_by_text("let y come from a comparison").first.wait_for()
    assert "Steps taken: 0" in readout(page)


def test_widget_picture_has_its_text(page):
    label = page.locator("svg[role=img]").first.get_attribute("aria-label")
    assert "Steps taken" in label and "cat" in label


def test_no_cell_failed(page):
    page.locator(IDLE).first.wait_for()
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']", has_text="Error").count() == 0
    assert page.locator(FAILED).count() == 0
