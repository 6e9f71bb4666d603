"""How soon the page is painted, how smooth it stays with many sessions that change, and how
accessible it is by Lighthouse.

It takes Chromium. The page is measured beside one that has nothing in it, in the same browser.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from fastx_list import config
from fastx_list.store import open_store
from tests.bench import common

ROWS = 1000
CHANGES_A_SECOND = 20
FIRST_PAINT_MS = 500
LOGIN = common.login_name(0)
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
FRAMES = """
([milliseconds, step]) => new Promise((done) => {
  const frames = [], tasks = [];
  let changed = 0;
  const watched = document.querySelectorAll("#rows .name bdi");
  const watch = new MutationObserver((records) => { changed += records.length; });
  for (const name of watched) watch.observe(name, { childList: true });
  const each = (list) => tasks.push(...list.getEntries().map(({ duration }) => duration));
  new PerformanceObserver(each).observe({ type: "longtask" });
  let last = null, ends = performance.now() + milliseconds;
  requestAnimationFrame(function frame(now) {
    if (last !== null) frames.push(now - last);
    last = now;
    if (step && scrollY + innerHeight >= document.documentElement.scrollHeight) scrollTo(0, 0);
    scrollBy(0, step);
    if (now < ends) requestAnimationFrame(frame);
    else done({ frames, tasks, changed });
  });
})
"""


@dataclass
class Frames:
    """What the frames of some seconds were."""

    a_second: float
    longest: float  # ms between two
    late: float  # share of those that came after the time of two
    tasks: float  # ms a second in tasks of over 50 ms
    changed: float  # names of sessions a second
    cost: float  # ms of processor time of the page's thread in each


def frames(page: Page, seconds: float, step: int = 0) -> Frames:
    """Count the frames of ``page``, which is scrolled by so many pixels in each."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")
    before = busy(session)
    found: dict[str, Any] = page.evaluate(FRAMES, [seconds * 1000, step])
    every = found["frames"]
    return Frames(
        a_second=len(every) / sum(every) * 1000,
        longest=max(every),
        late=sum(each > 2 * 1000 / 60 for each in every) / len(every),
        tasks=sum(found["tasks"]) / seconds,
        changed=found["changed"] / seconds,
        cost=(busy(session) - before) / len(every) * 1000,
    )


def busy(session: CDPSession) -> float:
    """Return the seconds of processor time that the page's thread has spent on tasks."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def first_paint(browser: Browser, url: str) -> float:
    """Return after how many ms a browser that has nothing of it yet paints the page."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        page.wait_for_function(PAINTED)
        return float(page.evaluate(PAINTED))


@contextmanager
def changes(environ: dict[str, str], ids: list[str]) -> Iterator[None]:
    """Change so many sessions a second, one after the other."""
    stop = threading.Event()

    def run() -> None:
        with closing(open_store(config.load(environ).store)) as store:
            number = 0
            while not stop.wait(1 / CHANGES_A_SECOND):
                number += 1
                patch = {"name": f"Change {number}"}
                store.set_params(ids[number * 7 % len(ids)], LOGIN, patch)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def accessibility(lighthouse: str, chromium: str, url: str) -> float:
    """Return Lighthouse's score, of 100."""
    done = subprocess.run(
        [
            *(lighthouse, url, "--quiet", "--output=json", "--only-categories=accessibility"),
            "--chrome-flags=--headless --no-sandbox",
        ],
        env={**os.environ, "CHROME_PATH": chromium},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise common.BenchmarkError(f"Lighthouse does not work:\n{done.stderr}")
    found = json.loads(done.stdout)
    for each in found["audits"].values():
        if each["score"] == 0:
            print(f"  {each['title']}")
    return float(found["categories"]["accessibility"]["score"]) * 100


def run(options: argparse.Namespace) -> int:
    report = common.Report("The page", options.quick)
    seconds, rounds = (1, 1) if options.quick else (options.seconds, options.rounds)
    with ExitStack() as stack:
        state = stack.enter_context(common.work_dir())
        ports = common.free_port(), common.free_port()
        environ = common.environment(state, FASTX_LIST_LIVE_PORT=str(ports[1]))
        made = [common.make_session(number, ROWS) for number in range(ROWS)]
        with closing(open_store(config.load(environ).store)) as store:
            store.observe(common.SERVER_ID, {each.id: each for each in made})
        for role, port in zip(("web", "live"), ports, strict=True):
            command = common.gunicorn(role, f"127.0.0.1:{port}")
            stack.enter_context(common.running(command, environ, common.listens(port)))
        url = f"http://127.0.0.1:{ports[0]}"
        signed_in = f"{url}/#token={common.issue(state, LOGIN)}"
        chromium = common.tool("chromium")
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        paint(report, browser, signed_in, url, rounds)
        with changes(environ, [each.id for each in made]):
            smoothness(report, browser, f"{signed_in}&limit={ROWS}", seconds, rounds)
        browser.close()
        if options.lighthouse:
            for name, address in (("signed in", signed_in), ("to sign in", url)):
                score = accessibility(options.lighthouse, chromium, address)
                report.target(f"accessibility by Lighthouse, {name}", score, at_least=100)
    return report.status()


def paint(report: common.Report, browser: Browser, signed_in: str, url: str, rounds: int) -> None:
    measures = {
        "page": lambda: first_paint(browser, signed_in),
        "text": lambda: first_paint(browser, f"{url}/health"),
    }
    found = common.alternate(measures, rounds)
    soon = report.figure("first paint of the page", found["page"], "ms")
    report.figure("first paint of one line of text", found["text"], "ms")
    report.target("first paint, in ms", soon, at_most=FIRST_PAINT_MS)


def smoothness(
    report: common.Report, browser: Browser, url: str, seconds: float, rounds: int
) -> None:
    empty, full = browser.new_page(), browser.new_page()
    full.goto(url)
    full.locator("#rows tr[data-id]").nth(ROWS - 1).wait_for()
    full.get_by_text("Change 1").first.wait_for()
    for name, step in (("still", 0), ("scrolled", 8)):

        def count(page: Page, step: int = step) -> Frames:
            page.bring_to_front()
            return frames(page, seconds, step)

        found = common.alternate(
            {"page": lambda: count(full), "empty": lambda: count(empty)}, rounds
        )
        rates = {which: [each.a_second for each in every] for which, every in found.items()}
        page = found["page"]
        report.figure(f"{name}: frames a second", rates["page"], "")
        report.figure(f"{name}: of an empty page", rates["empty"], "")
        report.figure(
            f"{name}: names of sessions that changed", [each.changed for each in page], "a s"
        )
        report.figure(f"{name}: processor time each", [each.cost for each in page], "ms")
        report.figure(f"{name}: longest time between two", [each.longest for each in page], "ms")
        report.figure(f"{name}: of an empty page", [each.longest for each in found["empty"]], "ms")
        report.figure(f"{name}: late by a frame or more", [each.late * 100 for each in page], "%")
        report.figure(f"{name}: in tasks of over 50 ms", [each.tasks for each in page], "ms a s")
        beside = report.figure(
            f"{name}: beside the empty page", common.ratios(rates["page"], rates["empty"]), ""
        )
        report.target(f"{name}: frames beside the empty page", beside, at_least=0.97)


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=common.whole(1, 60), default=5, help="(%(default)s)")
    parser.add_argument("--rounds", type=common.whole(1, 50), default=5, help="(%(default)s)")
    parser.add_argument("--lighthouse", help="its command: npm install lighthouse@12.2.3")
    common.main(run, parser)
