"""Run a condition's five notebooks in JupyterLab, in a headless browser, and save a picture of each (`make screenshots`).

The condition is copied to a temporary folder, a run folder is made there, and each notebook is opened as a user would and run by
JupyterLab's own "Run All Cells". Exit code 1, and what is wrong, if a cell fails or a notebook shows no figure. Needs playwright (installed by make) and a Chromium or Chrome of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from minima_volume.runs.conditions import is_condition
from minima_volume.runs.create import new_runs
from minima_volume.stages.run import RUN_NOTEBOOKS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
WIDTH, TALLEST = 1250, 16_000  # pixels; a taller page is refused by the browser
NOTEBOOK_S, START_S = 1800, 120
RUN_ALL = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await panel.context.ready; await panel.context.sessionContext.ready;
  await app.commands.execute('notebook:run-all-cells');
}"""
OUTCOME = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
  const found = {cells: 0, ran: 0, figures: 0, errors: []};
  for (const cell of cells) {
    const json = cell.toJSON();
    if (json.cell_type !== 'code') continue;
    found.cells += 1; found.ran += json.execution_count ? 1 : 0;
    for (const output of json.outputs) {
      if (output.output_type === 'error') found.errors.push(output.ename + ': ' + output.evalue);
      if (output.data && output.data['image/png']) found.figures += 1;
    }
  }
  return found;
}"""
HEIGHT = "() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight"
TO_THE_TOP = "() => { document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0; }"
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # every cell is drawn, seen or not
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def main() -> int:
    """Exit code 0 if every notebook ran and was pictured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--condition", type=Path, default=ROOT / "experiments/digits/low_data/base")
    parser.add_argument("--output", type=Path, default=ROOT / "screenshots", help="folder for the pictures")
    arguments = parser.parse_args()
    if not is_condition(arguments.condition):
        return fail(
            f"{arguments.condition} is not a condition: it must be a folder like experiments/digits/low_data/base"
        )
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return fail(f"no browser: none of {', '.join(BROWSERS)} is on this machine; on Debian, apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return fail("playwright is not installed: pip install 'minima_volume[screenshots]', or make screenshots")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = new_run(arguments.condition, Path(folder))
        with jupyterlab(run.parent) as address, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(SWITCHES), chromium_sandbox=False)
            problems = [
                problem
                for number, name in enumerate(RUN_NOTEBOOKS, 1)
                for problem in pictured(chromium, address, f"{run.name}/{name}", arguments.output / f"{number}.png")
            ]
    return fail("; ".join(problems)) if problems else 0


def fail(text: str) -> int:
    """One line on standard error, and exit code 1."""
    print(f"error: {text}", file=sys.stderr)
    return 1


def new_run(condition: Path, folder: Path) -> Path:
    """A run folder of a copy of the condition, without its runs."""
    copy = folder / condition.name
    shutil.copytree(condition, copy, ignore=shutil.ignore_patterns("model_*_data_*", "analysis"))
    return new_runs(copy, [(0, 10)])[0]


@contextmanager
def jupyterlab(folder: Path) -> Iterator[tuple[str, str]]:
    """JupyterLab on loopback, with its address and token; no setting or extension of the user's is read or written."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = folder / ".jupyter"
    (own / "app_settings").mkdir(parents=True)
    (own / "app_settings/overrides.json").write_text(json.dumps(SETTINGS))
    places = {"JUPYTER_CONFIG_DIR": own, "JUPYTER_RUNTIME_DIR": own / "runtime", "IPYTHONDIR": own / "ipython"}
    token = secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--expose-app-in-browser",
        "--allow-root",
        "--ip=127.0.0.1",
    ]
    command += [f"--port={port}", f"--notebook-dir={folder}", f"--IdentityProvider.token={token}"]
    command += [f"--LabApp.{name}_dir={own / name}" for name in ("app_settings", "user_settings", "workspaces")]
    environment = os.environ | {name: str(path) for name, path in places.items()}
    with (own / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/api/status?token={token}", server, own / "log")
        yield address, token
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def pictured(browser: Browser, server: tuple[str, str], path: str, picture: Path) -> list[str]:
    """Open a notebook, run all cells, save the picture of the whole page; what went wrong."""
    address, token = server
    page: Page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    page.goto(f"{address}/doc/tree/{quote(path)}?token={token}", timeout=START_S * 1000)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=START_S * 1000)
    page.set_default_timeout(NOTEBOOK_S * 1000)
    page.evaluate(RUN_ALL)
    found: dict[str, Any] = page.evaluate(OUTCOME)
    page.set_viewport_size({"width": WIDTH, "height": min(TALLEST, int(page.evaluate(HEIGHT)) + 120)})
    page.wait_for_timeout(1000)  # figures settle in the new size
    page.evaluate(TO_THE_TOP)
    page.wait_for_timeout(500)
    page.screenshot(path=str(picture))
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.close()
    print(
        f"{picture}: {path}, {found['ran']} of {found['cells']} code cells ran, {found['figures']} figures", flush=True
    )
    problems = list(found["errors"])
    problems += ["not every cell ran"] if found["ran"] < found["cells"] else []
    problems += ["no figure"] if not found["figures"] else []
    return [f"{path}: {problem}" for problem in problems]


if __name__ == "__main__":
    sys.exit(main())
