"""The report in a real browser: charts that follow their controls, tables that sort, no console error. Needs Chromium.

The page forbids itself every request (Content-Security-Policy): one that it tried would be a console error here.
"""

import pytest

from mann_bench.reports.pages import write_report
from tests.support.browser import CHROMIUM, use_page
from tests.support.results import make_result

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# Uses the page as a reader does, and prints a line of JSON for each thing seen.
SCRIPT = """
const drawn = () => [...document.querySelectorAll("figure svg")].length;
const choose = async (name, value) => {
  const input = document.getElementById(name);
  if (input.type === "checkbox") input.checked = value; else input.value = value;
  input.dispatchEvent(new Event("change"));
  await wait(300);
};
const csv = side => decodeURIComponent(document.getElementById("csv-" + side).href.split(",").slice(1).join(","))
  .split("\\n").slice(1).map(line => JSON.parse("[" + line + "]"));
const lines = () => [...document.querySelectorAll("#chart-left .mark-line path")].filter(path => path.hasAttribute("opacity"));
const faint = () => lines().filter(path => path.getAttribute("opacity") < 0.1).length;
const rows = () => [...document.querySelectorAll("tr[id^=case-]")].filter(row => !row.hidden).length;
  for (let tries = 0; drawn() < 2 && tries < 100; tries++) await wait(50);
  const table = document.querySelector("tr[id^=case-]").closest("table");
  const column = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === "N");
  const order = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent).join(" ");
  const head = table.tHead.rows[0].cells[column].querySelector("button");
  head.click(); say("UP", order());
  head.click(); say("DOWN", order());
  say("LINK", document.getElementById(document.querySelector('a[href^="#case-"]').getAttribute("href").slice(1)) !== null);
  say("VIEWS", [...document.getElementById("view").options].map(option => option.textContent));
  say("VALUES", csv("left").filter(row => row[0] === "ntm").map(row => [row[2], row[3]].map(Number)));
  await choose("baseline", "ntm");
  say("RATIOS", csv("left").map(row => [row[0], ...[row[2], row[3]].map(Number)]));
  const marks = () => document.querySelectorAll("#chart-left .role-mark path[d]").length;
  const svg = document.querySelector("#chart-left svg"), before = marks();
  await choose("baseline", "sam");
  const title = document.querySelector("#chart-left .role-title-text text").textContent;
  say("REFILLED", [svg === document.querySelector("#chart-left svg"), marks() - before, title]);
  await choose("baseline", "");
  const ticks = [...document.querySelectorAll("#chart-right .role-axis-label text")].filter(tick => tick.textContent.endsWith("B"));
  say("TICKS", [ticks.length, new Set(ticks.map(tick => tick.getAttribute("transform"))).size]);
  await choose("view", [...document.getElementById("view").options].at(-1).value);
  say("STEPS", csv("left").map(row => Number(row[2])));
  await choose("only", true); say("ONLY", rows());
  await choose("only", false); say("ALL", rows());
  await choose("log", false); await choose("fit", true);
  await choose("view", document.getElementById("view").options[0].value);
  say("FAINT", faint());
  const label = [...document.querySelectorAll("#chart-left .role-legend-label text")].find(text => text.textContent === "sam");
  label.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  await wait(300);
  say("ISOLATED", faint());
  const point = [...document.querySelectorAll("#chart-left .role-mark.mark-symbol path")].at(-1);
  for (const kind of ["pointerover", "pointermove"]) point.dispatchEvent(new PointerEvent(kind, {bubbles: true}));
  await wait(300);
  say("TOOLTIP", document.querySelector("#vg-tooltip-element")?.textContent.includes("case id"));
  say("SAVES", [...document.querySelectorAll("#chart-left .vega-actions a")].map(link => link.textContent));
"""


def test_page_in_a_browser(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    sizes = (1024, 64, 131072, 4096)
    results = [make_result(model, n, ms=n / 50 / rate) for model, rate in (("sam", 2), ("ntm", 1)) for n in sizes]
    results += [make_result("sam", 64, ms=3, steps=steps) for steps in (20, 50)]
    (run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    page = write_report([run], tmp_path / "out")
    seen = use_page(page, SCRIPT)
    assert seen["UP"].split() == ["64"] * 4 + ["1k"] * 2 + ["4k"] * 2 + ["128k"] * 2
    assert seen["DOWN"].split() == ["128k"] * 2 + ["4k"] * 2 + ["1k"] * 2 + ["64"] * 4
    assert seen["LINK"] is True
    assert seen["VIEWS"] == [
        "training, batch 1, 10 steps, memory full, against memory slots N",
        "training, batch 1, memory full, 64 slots, against steps T",
    ]
    assert sorted(seen["VALUES"]) == [[n, pytest.approx(n / 50)] for n in sorted(sizes)]
    assert sorted(seen["RATIOS"]) == [[model, n, pytest.approx(rate)] for model, rate in (("ntm", 1), ("sam", 2)) for n in sorted(sizes)]
    assert seen["REFILLED"] == [True, 0, "Time per step: times less than sam"]  # no new chart, as those take most of the time of a change
    assert seen["TICKS"][0] == seen["TICKS"][1] > 0  # of an axis whose values are all the same: none lies on another
    assert sorted(seen["STEPS"]) == [10, 10, 20, 50]
    assert (seen["ONLY"], seen["ALL"]) == (4, 10)
    assert (seen["FAINT"], seen["ISOLATED"]) == (0, 1)
    assert seen["TOOLTIP"] is True
    assert seen["SAVES"] == ["Save as SVG", "Save as PNG"]
