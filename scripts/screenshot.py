"""Take the pictures of docs/images from this checkout's running installation: `make demo`, then `scripts/screenshot`.

Needs Chromium or Chrome (on PATH, or its path in CHROMIUM) and nothing else: the browser is driven by its own DevTools
protocol. If no promotion waits for an answer, a training is started as mia and its promotion is left waiting, so that
there is a request to photograph. Names of pictures as arguments take only those.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import httpx
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from airgate.airflow_api import AirflowApi
from airgate.contracts.runs import dag_id
from airgate.platform import airflow_client, environment, layout
from airgate.platform.environment import Installation
from airgate.platform.story import LAST_DAY, MODEL

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0")
WIDTH = 1280
PATIENCE = 90.0  # seconds until a page must show what it is photographed for
# What is on the page, and in the frame of a plugin's page.
TEXT = "document.body.innerText + (document.querySelector('iframe')?.contentDocument?.body?.innerText ?? '')"


class Tab:
    """One tab of the browser, as its DevTools protocol gives it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def ask(self, method: str, **params: object) -> dict:
        """Send a command and give its result; events in between are dropped."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv(timeout=PATIENCE))).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def run(self, script: str) -> object:
        """Run JavaScript in the page; gives its value, None where it fails."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def photograph(self, name: str, address: str, expected: str, dark: bool = False, height: int = 800) -> None:
        """Open a page of Airflow, wait for a text on it, and keep it as docs/images/<name>.png."""
        self.ask("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)
        self.run(f"localStorage.setItem('theme', '{'dark' if dark else 'light'}')")
        self.ask("Page.navigate", url=address)
        deadline = time.monotonic() + PATIENCE
        while expected not in str(self.run(TEXT)):
            if time.monotonic() > deadline:
                sys.exit(f"screenshot: {address} does not show {expected!r} after {PATIENCE:.0f} s, but:\n{self.run(TEXT)}")
            time.sleep(0.5)
        time.sleep(3)  # graphs and lists settle
        picture = IMAGES / f"{name}.png"
        png = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        Image.open(BytesIO(png)).quantize(128).save(picture, optimize=True)  # a third of the size, the same to the eye
        print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1000:.0f} kB")


@contextmanager
def browser() -> Iterator[Tab]:
    """A headless browser with an empty profile that is gone afterwards."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"screenshot: none of {', '.join(BROWSERS)} is on PATH; set CHROMIUM to the path of one")
    with tempfile.TemporaryDirectory(prefix="airgate-screenshot-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            said = Path(profile) / "DevToolsActivePort"
            deadline = time.monotonic() + PATIENCE
            while not (said.exists() and "\n" in said.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"screenshot: {program} did not start")
                time.sleep(0.2)
            tabs = httpx.get(f"http://127.0.0.1:{said.read_text().split()[0]}/json/list", trust_env=False).json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(address, max_size=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
            process.wait(timeout=30)


def sign_in(tab: Tab, installation: Installation, user: str) -> None:
    """Give the browser the cookie that Airflow's own sign-in page sets."""
    answer = httpx.post(f"{installation.airflow_url}/auth/token", trust_env=False,
                        json={"username": user, "password": installation.credentials.passwords[user]}).raise_for_status()
    tab.ask("Network.setCookie", name="_token", value=answer.json()["access_token"], url=installation.airflow_url)
    tab.ask("Page.navigate", url=f"{installation.airflow_url}/api/v2/version")  # the page whose localStorage is meant
    time.sleep(2)
    tab.run("localStorage.setItem('default_dag_view', JSON.stringify('graph'))")


def open_question(admin: AirflowApi, mia: AirflowApi) -> airflow_client.Question:
    """An approval that waits for an answer: one that is there, or that of a new training by mia."""
    if waiting := airflow_client.questions(admin, dag_id(MODEL, "promotion")):
        return waiting[0]
    print("no promotion waits: training a model as mia, whose promotion will be left waiting")
    training = airflow_client.trigger(mia, dag_id(MODEL, "training"), {"day": LAST_DAY})
    airflow_client.wait(admin, training, lambda *_: None)
    validation = airflow_client.set_off(admin, training, dag_id(MODEL, "validation"))
    airflow_client.wait(admin, validation, lambda *_: None)
    promotion = airflow_client.set_off(admin, validation, dag_id(MODEL, "promotion"))
    deadline = time.monotonic() + PATIENCE
    while not (waiting := airflow_client.questions(admin, promotion.dag_id)):
        if time.monotonic() > deadline:
            sys.exit(f"screenshot: {promotion.run_id} asked nobody within {PATIENCE:.0f} s")
        time.sleep(1)
    return waiting[0]


def main() -> None:
    """Take them all, or those named."""
    place = layout.find()
    if not (place.home / "ports.json").exists():
        sys.exit("screenshot: nothing was started here yet; `make demo` does")
    installation = environment.find(place)
    here, passwords = installation.airflow_url, installation.credentials.passwords
    with AirflowApi(here, "admin", passwords["admin"]) as admin, AirflowApi(here, "mia", passwords["mia"]) as mia:
        question = open_question(admin, mia)
        runs = admin.get(f"dags/{dag_id(MODEL, 'training')}/dagRuns", order_by="-run_after", limit=1)["dag_runs"]
    promotion, training = question.run.path.replace("dagRuns", "runs"), dag_id(MODEL, "training")
    latest = quote(runs[0]["dag_run_id"], safe="")
    asked = f"{here}/{promotion}/tasks/{question.task_id}/required_actions"
    pictures: dict[str, tuple[str, dict[str, object]]] = {  # by name: who looks, and what photograph() is to do
        "home": ("admin", {"address": f"{here}/", "expected": "Governance"}),
        "governance": ("admin", {"address": f"{here}/plugin/governance", "expected": "every event", "height": 900}),
        "governance-dark": ("admin", {"address": f"{here}/plugin/governance", "expected": "every event", "dark": True}),
        "approval": (question.people[0], {"address": asked, "expected": "You approve exactly", "height": 1600}),
        "training": ("mia", {"address": f"{here}/dags/{training}/runs/{latest}", "expected": "register"}),
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or pictures:
        user, page = pictures[name]
        with browser() as tab:
            sign_in(tab, installation, user)
            tab.photograph(name, **page)


if __name__ == "__main__":
    main()
