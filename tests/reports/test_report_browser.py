"""The page in a real browser: no console error, tables that sort, links that lead somewhere. Needs Chromium.

The page forbids itself every request (Content-Security-Policy): one that it tried would be a console error here.
"""

import re
import shutil
import subprocess

import pytest

from mann_bench.reports.pages import write_report
from tests.support.results import make_result

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# Clicks each heading of the last table twice and reports the order of its rows by N; then follows a link to a case.
SCRIPT = """
<script>
const table = [...document.querySelectorAll("table")].at(-1);
const order = () => [...table.tBodies[0].rows].map(row => row.cells[2].textContent).join(" ");
const head = [...table.tHead.querySelectorAll("button")].find(button => button.textContent === "N");
head.click(); console.log("UP " + order());
head.click(); console.log("DOWN " + order());
const link = document.querySelector('a[href^="#case-"]');
console.log("LINK " + (document.getElementById(link.getAttribute("href").slice(1)) !== null));
</script>
"""


def test_page_in_a_browser(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    results = [make_result(model, n, ms=n / 50) for model in ("sam", "ntm") for n in (1024, 64, 131072, 4096)]
    (run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    page = write_report([run], tmp_path / "out")
    page.write_text(page.read_text().replace("</body>", SCRIPT + "</body>"))
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions"]
    options = [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([str(CHROMIUM), *quiet, *options, f"file://{page}"], capture_output=True, text=True, timeout=120)
    printed = re.findall(r"CONSOLE[:(].*?\] \"(.*?)\", source", done.stderr)
    assert "default-src 'none'" in page.read_text()
    assert printed == [
        "UP " + " ".join(["64"] * 2 + ["1k"] * 2 + ["4k"] * 2 + ["128k"] * 2),
        "DOWN " + " ".join(["128k"] * 2 + ["4k"] * 2 + ["1k"] * 2 + ["64"] * 2),
        "LINK true",
    ]
