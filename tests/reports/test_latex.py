"""Tables for LaTeX: any name is shown as it is, and an engine, where one is installed, accepts what `report --format tex` writes."""

import shutil
import subprocess

import pytest

from mann_bench.reports.html.plot_files import PlotFiles
from mann_bench.reports.pages import write_report
from mann_bench.reports.scaling.figures import _escape
from tests.published.results import RESULTS
from tests.support.results import make_result

ENGINE = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
EVIL = ("mine:A_b&c%d$e#f{g}^h~i", "[mine]:<b>", '*:|"', "größe:Modell", "\u6a21\u578b:\U0001f600\\end{tabular}", "a\rb:c")
PAPER = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\tiny\n%s\\end{document}\n"


def test_every_character_is_text():
    assert _escape("a_b & 5% of {N}^2 ~ #1 $") == r"a\_b \& 5\% of \{N\}\textasciicircum{}2 \textasciitilde{} \#1 \$"
    assert _escape('<b>|"') == r"\textless{}b\textgreater{}\textbar{}''"
    assert _escape("[*]") == "{[}{*}]"  # not arguments of the end of a line
    assert _escape("größe \U0001f600\r") == "größe U+1F600U+000D"


def tables_of(run, tmp_path):
    """The tables of a run, as one document."""
    write_report([run], tmp_path / "out", files=PlotFiles(("tex",)))
    tables = sorted((tmp_path / "out" / "plots").glob("*.tex"))
    assert tables
    return PAPER % "".join(f"\\noindent {path.read_text()}\\clearpage\n" for path in tables)


def test_a_table_is_one_whatever_names_hold(tmp_path):
    text = tables_of(evil_run(tmp_path), tmp_path)
    for line in text.splitlines():
        assert not line.startswith(("[", "*")), line
        assert "\U0001f600" not in line or line.startswith("%")
    assert text.count("\\end{tabular}") == text.count("\\begin{tabular}") > 0


def evil_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    results = [
        make_result(name, slots, ms=number + slots / 64, suite="made-up")
        for number, name in enumerate(EVIL, 1)
        for slots in (64, 256, 1024)
    ]
    (run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    return run


@pytest.mark.slow
@pytest.mark.skipif(ENGINE is None, reason="needs a LaTeX engine: apt-get install texlive-latex-recommended")
@pytest.mark.parametrize("which", ["evil", "paper"])
def test_an_engine_compiles_every_table(which, tmp_path):
    run = evil_run(tmp_path) if which == "evil" else next(RESULTS.glob("paper-*"))
    (tmp_path / "tables.tex").write_text(tables_of(run, tmp_path))
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in str(ENGINE) else []
    done = subprocess.run(
        [str(ENGINE), *options, "tables.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000
