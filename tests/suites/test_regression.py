"""The points of the asv history: all cases are tracked, lower is better, and numbers come from the runner's results only."""

import json
import math
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mann_bench.data.case import Case
from mann_bench.data.suite import parse_suite
from mann_bench.reports.data.frame import EXACT_INDEXES
from mann_bench.suites.regression import points
from tests.support.results import make_result

ROOT = Path(__file__).resolve().parents[2]


def stored(*results):
    return [points.fields_of(result) for result in results]


def test_every_case_of_the_suite_has_its_name_and_none_twice():
    cases = {points.name_of(case.model_dump()): case for case in parse_suite(points.SOURCE.read_text(), "regression.toml").cases}
    assert sorted(cases) == sorted(points.NAMES)
    assert len(set(points.NAMES)) == len(points.NAMES)
    assert [name for name in points.NAMES if cases[name].mode == "train"] == points.TRAINED
    assert [name for name in points.NAMES if cases[name].index not in EXACT_INDEXES] == points.INDEXED
    benchmarks = [kind for kind in vars(points).values() if isinstance(kind, type) and "params" in vars(kind)]
    assert {kind.__name__ for kind in benchmarks} == {"Steps", "Tape", "Error", "Missed"}
    tracked = [len(vars(kind)["params"][0]) for kind in benchmarks for name in vars(kind) if name.startswith("track_")]
    assert 20 <= sum(tracked) <= 60


@pytest.mark.parametrize(
    "change", [{"variant": "checkpointed"}, {"kernels": "torch"}, {"index": "lsh"}, {"mode": "infer"}, {"slots": 2048}, {"slots": 1000}]
)
def test_cases_that_differ_have_different_names(change):
    case = Case(suite="made-up", model="sam", slots=1024)
    assert points.name_of({**case.model_dump(), **change}) != points.name_of(case.model_dump())


def test_times_are_a_sample_a_quarter_of_each_process():
    result = make_result()
    passes = result.time.pass_ms.model_copy(update={"samples": [float(i) for i in range(1, 41)]})
    result = result.model_copy(update={"time": result.time.model_copy(update={"pass_ms": passes})})
    times = points.times_s(stored(result, result))
    assert times["samples"] == pytest.approx([0.55e-3, 1.55e-3, 2.55e-3, 3.55e-3] * 2)
    assert times["number"] == 1


def test_what_failed_is_nan():
    failed = make_result(status="oom", reason="full")
    assert math.isnan(points.times_s(stored(make_result(), failed))["samples"][0])
    assert math.isnan(points.worst(stored(make_result(), failed), "memory", "peak_bytes"))
    assert math.isnan(points.worst(stored(make_result()), "check", "max_rel_err"))


def test_every_benchmark_has_a_unit():
    benchmarks = [getattr(group, name) for group in points.Tracked.__subclasses__() for name in vars(group) if name.startswith("track_")]
    assert [benchmark.unit for benchmark in benchmarks] == ["seconds", "bytes", "bytes", "relative RMS", "1 - recall"]


def test_a_process_of_a_point_imports_no_torch():
    """asv starts one for each of 35 points and commit."""
    code = f"import runpy, sys; runpy.run_path({points.__file__!r}); sys.exit('torch' in sys.modules or 'mann_bench' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_worst_of_the_processes_and_lower_is_better():
    results = stored(*(make_result(per_step=n).model_copy(update={"recall": r}) for n, r in ((10, 0.9), (20, 0.9))))
    cache = dict.fromkeys(points.NAMES, results)
    assert points.Tape().track_bytes_per_step(cache, "sam 16k") == 20
    assert points.Steps().track_peak_bytes(cache, "sam 16k") == 1200
    assert points.Missed().track_missed(cache, "sam lsh 64k") == 0.1  # not 0.09999999999999998
    assert points.rounded(0.000123456) == 0.000123
    assert math.isnan(points.rounded(math.nan))


def missing_files(configuration):
    """The files that asv's configuration names and that do not exist."""
    commands = " ".join(configuration["build_command"] + configuration["install_command"])
    named = [f"{configuration['benchmark_dir']}/__init__.py", *re.findall(r"\{conf_dir\}/(\S+)", commands)]
    assert len(named) > 1, "the install command is not of the project: asv would install any torch"
    return [name for name in named if not (ROOT / name).is_file()]


def test_configuration_names_what_exists():
    configuration = json.loads((ROOT / "asv.conf.json").read_text())
    assert (ROOT / configuration["benchmark_dir"] / "points.py").samefile(points.__file__)
    assert missing_files(configuration) == []
    assert missing_files({**configuration, "benchmark_dir": "suites/gone"}) == ["suites/gone/__init__.py"]
    assert missing_files({**configuration, "install_command": ["pip --constraint {conf_dir}/gone.txt"]}) == ["gone.txt"]


def test_asv_shares_the_packages_of_the_project_and_installs_others_as_constrained(tmp_path):
    """A path file adds the folder, after the environment's own packages, and runs none of the path files in it."""
    script = runpy.run_path(str(ROOT / ".ci" / "asv_install.py"))
    own, shared = tmp_path / "own", tmp_path / ".venv" / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    own.mkdir()
    assert script["arguments"](tmp_path, "a.whl", own) == ["--constraint", f"{tmp_path}/constraints.txt", "a.whl"]
    (shared / "torch").mkdir(parents=True)
    (shared / "editable.pth").write_text(f"{ROOT}\n")
    assert script["arguments"](tmp_path, "a.whl", own) == ["--no-deps", "--ignore-installed", "a.whl"]
    code = "import site, sys; site.addsitedir(sys.argv[1]); print(*sys.path, sep='\\n')"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, own], capture_output=True, text=True, check=True).stdout.splitlines()
    assert found[-2:] == [str(own), str(shared)]
    shutil.rmtree(tmp_path / ".venv")
    script["arguments"](tmp_path, "a.whl", own)
    assert list(own.iterdir()) == []


@pytest.mark.slow
def test_asv_finds_all_points(tmp_path):
    """`asv check` imports the benchmarks as asv does; it runs in a copy that is a git repository."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".git", ".asv", "runs", "__pycache__"))
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for arguments in (["init", "--quiet"], ["add", "asv.conf.json"], ["commit", "--quiet", "--message", "one"]):
        subprocess.run(["git", *author, *arguments], cwd=copy, check=True)
    asv = [sys.executable, "-m", "asv"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)}
    subprocess.run([*asv, "machine", "--yes"], cwd=copy, env=home, check=True, capture_output=True)
    done = subprocess.run([*asv, "check", "--python=same"], cwd=copy, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
