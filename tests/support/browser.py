"""A page in headless Chromium: a script uses it as a reader does, and prints a line of JSON for each thing that it sees."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HELPERS = """
const wait = ms => new Promise(done => setTimeout(done, ms));
const say = (name, value) => console.log("%d " + name + " " + JSON.stringify(value));
const until = async test => { for (let tries = 0; !test() && tries < 200; tries++) await wait(50); };
"""
HARMLESS = ("WARN Infinite extent", 'WARN Dropping "fit-y"')  # a choice that leaves nothing to draw; a chart as high as its rows
# What every page with charts of `html/interactive.py` must stand: each choice of each list, a click on a name, a hover, the CSV.
EVERY_CHART = """
const charts = [...document.querySelectorAll(".interactive .chart")];
await until(() => charts.every(chart => chart.querySelector("svg")));
say("DRAWN", charts.map(chart => chart.id));
let choices = 0;
for (const list of document.querySelectorAll(".interactive select")) {
  for (const option of [...list.options, list.options[0]]) {
    list.value = option.value;
    for (const kind of ["input", "change"]) list.dispatchEvent(new Event(kind, {bubbles: true}));
    await wait(30);
    choices++;
  }
}
say("CHOICES", choices);
say("MARKS", charts.map(chart => chart.querySelectorAll(".role-mark path[aria-roledescription], .role-mark path[d]").length));
for (const chart of charts) {
  const name = chart.querySelector(".role-legend-label text");
  if (name) name.dispatchEvent(new MouseEvent("click", {bubbles: true}));
}
await wait(100);
let tips = 0;
for (const chart of charts) {
  const marks = [...chart.querySelectorAll(".mark-symbol.role-mark path, .mark-rect.role-mark path")];
  if (!marks.length) continue;
  for (const kind of ["pointerover", "pointermove"]) marks.at(-1).dispatchEvent(new PointerEvent(kind, {bubbles: true}));
  await wait(60);
  tips += document.querySelector("#vg-tooltip-element.visible") ? 1 : 0;
}
say("TIPS", tips);
const csv = chart => decodeURIComponent(document.getElementById("csv-" + chart.id).href);
say("CSV", charts.map(chart => csv(chart).split("\\n").length));
say("HIGH", Math.max(...charts.map(chart => chart.querySelector("svg").getBoundingClientRect().height)));
say("WIDE", document.documentElement.scrollWidth - document.documentElement.clientWidth);
say("UNNAMED", [...document.querySelectorAll("select, input")].filter(field => !field.closest("label")).length);
const head = document.querySelector("th button");
if (head) { head.click(); say("SORTED", head.closest("th").getAttribute("aria-sort")); }
"""


def use_page(page: Path, script: str, *, width: int = 1400) -> dict[str, Any]:
    """Run a script in a copy of a page, in a window so many pixels wide; see `use_page_at`."""
    (said,) = use_page_at(page, script, (width,))
    return said


def use_page_at(page: Path, script: str, widths: Sequence[int]) -> list[dict[str, Any]]:
    """Run a script in copies of a page, each in a window of its own width, in one browser: to start one takes longer than a page.

    Args:
        script: the body of an asynchronous function; `say(NAME, value)` reports a value, NAME in capitals.
        widths: of the windows, in pixels.

    Returns:
        What was said, by name, for each width.

    Raises:
        AssertionError: the console has anything else: an error, a warning, or a request, which the page forbids itself.
    """
    content, end = page.read_text().rsplit("</body>", 1)
    assert "default-src 'none'" in content
    frames = []
    for number, width in enumerate(widths):
        copy = page.with_name(f"used-{number}-{page.name}")
        copy.write_text(f"{content}<script>{HELPERS % number}(async () => {{{script}\nsay('DONE', true);}})();</script></body>{end}")
        frames.append(f'<iframe src="{copy.name}" style="width:{width}px;height:900px;border:0"></iframe>')
    shown = page.with_name(f"used-{page.name}")
    shown.write_text(f'<!doctype html><body style="margin:0">{"".join(frames)}</body>')
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions"]
    options = [f"--user-data-dir={page.parent / 'browser'}", "--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom"]
    window = f"--window-size={max(widths)},{900 * len(widths)}"
    done = subprocess.run([str(CHROMIUM), *quiet, window, *options, f"file://{shown}"], capture_output=True, text=True, timeout=240)
    printed = re.findall(r"CONSOLE[:(].*?\] \"(.*?)\", source", done.stderr)
    printed = [line for line in printed if not line.startswith(HARMLESS)]
    assert all(re.match(r"\d [A-Z]+ ", line) for line in printed), printed
    said: list[dict[str, Any]] = [{} for _ in widths]
    for number, name, value in (line.split(" ", 2) for line in printed):
        said[int(number)][name] = json.loads(value)
    assert all(each.get("DONE") is True for each in said), printed
    return said
