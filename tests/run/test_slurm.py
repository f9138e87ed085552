"""Array jobs of Slurm: what the scripts say, what is refused, and on a real cluster that a node that goes down loses nothing."""

import subprocess
from pathlib import Path

import pytest

from mann_bench.data.store import load_records, load_results, load_run
from mann_bench.learn.record import LEARNING
from mann_bench.run.slurm import CHOICE_FIRST, ArrayJob
from tests.support.slurm import cluster, told, wait_for, why_no_slurm

SUITE = 'name = "twelve"\n[fixed]\nsteps = 2\n[[sweep]]\nmodels = ["lstm"]\nslots = {slots}\n[budget]\ntiming_seconds = 0.01\nrounds = 1\n'
STUDY = """
name = "two"
models = ["lstm", "sam"]
[fixed]
hidden = 8
slots = 8
batch = 4
[[task]]
task = "copy"
levels = [1, 2]
sequences = {sequences}
[grid]
learning_rate = [1e-3, 1e-2]
[selection]
seeds = [7]
[report]
seeds = [0]
"""
LONG = """
name = "long"
models = ["lstm"]
[fixed]
hidden = 8
batch = 4
stop_at_goal = false
[[task]]
task = "copy"
levels = [1, 4]
{limit}
[report]
seeds = [0]
"""
TWELVE = SUITE.format(slots=[str(8 * size) for size in range(1, 13)])


PLANS = ["twelve.toml", "two.toml"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("twelve.toml").write_text(TWELVE)
    Path("two.toml").write_text(STUDY.format(sequences=1000))
    return tmp_path


def programs(folder, monkeypatch, **scripts):
    """Programs of Slurm that do what these lines of shell say."""
    (folder / "bin").mkdir()
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_a_dry_run_shows_scripts_and_writes_nothing(call, folder):
    options = ("--array", "4", "--gpus", "1", "--time", "4:00:00", "--partition", "long", "--sbatch=--account=lab", "--slots", "8")
    done = call("submit", "slurm", "twelve.toml", *options, "--dry-run", "--out", "o u t")
    assert done.returncode == 0, done.stderr
    for line in ("--array=1-4", "--exclusive", "--requeue", "--signal=B:TERM@120", "--gpus=1", "--time=4:00:00", "--account=lab"):
        assert f"#SBATCH {line}\n" in done.stdout
    assert done.stdout.count("#SBATCH --partition=long\n") == 2
    assert f'run {folder}/twelve.toml --slots=8 --shard "$shard/4"' in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == PLANS


def test_scripts_are_shell(folder):
    scripts = ArrayJob("a", ["run", "it's"], 3, folder / "o u't", rounds=CHOICE_FIRST).scripts
    assert list(scripts) == ["choosing-shard.sh", "merge-choosing.sh", "shard.sh", "merge.sh"]
    for text in scripts.values():
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False, capture_output=True).stderr == ""


def test_two_jobs_are_submitted(call, folder, monkeypatch):
    programs(folder, monkeypatch, sbatch='echo "$@" >> calls; wc -l < calls')
    done = call("submit", "slurm", "twelve.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert Path("calls").read_text().splitlines() == [
        "--parsable out/slurm/shard.sh",
        "--parsable --dependency=afterany:1 out/slurm/merge.sh",
    ]
    assert "8 shards as job 1, then merge and report as job 2" in done.stderr


def test_a_study_that_chooses_takes_two_rounds(call, folder, monkeypatch):
    programs(folder, monkeypatch, sbatch='echo "$@" >> calls; wc -l < calls')
    done = call("submit", "slurm", "two.toml", "--memory", "1G", "--threads", "1", "--array", "3", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert Path("calls").read_text().splitlines() == [
        "--parsable out/slurm/choosing-shard.sh",
        "--parsable --dependency=afterany:1 out/slurm/merge-choosing.sh",
        "--parsable --dependency=afterany:2 out/slurm/shard.sh",
        "--parsable --dependency=afterany:3 out/slurm/merge.sh",
    ]
    assert "3 shards that choose as job 1, their merge as 2, then 3 shards as job 3, then merge and report as job 4" in done.stderr
    first, join, second, last = (
        Path(f"out/slurm/{name}.sh").read_text() for name in ("choosing-shard", "merge-choosing", "shard", "merge")
    )
    learn = f"-m mann_bench learn {folder}/two.toml --memory=1G --threads=1"
    assert f'{learn} --shard "$shard/3"' in first
    assert f'{learn} --chosen {folder}/out/chosen --shard "$shard/3"' in second
    assert f"merge {folder}/out/choosing-shards/* --out {folder}/out/chosen" in join
    assert "report" not in join
    assert f"merge {folder}/out/chosen {folder}/out/shards/* --out {folder}/out/all" in last
    Path("plain.toml").write_text(STUDY.format(sequences=1000).replace("[grid]\nlearning_rate = [1e-3, 1e-2]\n", ""))
    shown = call("submit", "slurm", "plain.toml", "--memory", "1G", "--dry-run").stdout
    assert (shown.count("# shard.sh"), "--chosen" in shown) == (1, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("two.toml",), "submit two.toml: expected --memory, as 2G, the same on every host, got none"),
        (("two.toml", "--memory", "much"), "expected a size"),
        (("two.toml", "--memory", "1G", "--slots", "8"), "--slots: expected it in the study's file, got an option"),
        (("two.toml", "--memory", "1G", "--data", "none"), "--data none: expected a folder or an archive, got none there"),
        (("twelve.toml", "--memory", "1G"), "--memory: expected it with a study, got the suite twelve.toml"),
        (("absent.toml",), "absent.toml"),
    ],
)
def test_bad_usage_of_a_study_is_one_sentence(call, folder, options, message):
    done = call("submit", "slurm", *options, "--dry-run")
    assert (done.returncode, done.stderr.count("\n"), message in done.stderr) == (2, 1, True), done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected sbatch on this machine, got none"),
        (("--time", "soon"), "--time: expected a limit as sbatch takes it"),
        (("--sbatch", "account"), "--sbatch: expected an option of sbatch"),
        (("--partition", "a b"), "--partition: expected a name"),
        (("--slots", "many"), "expected a size"),
    ],
)
def test_bad_usage_leaves_nothing(call, folder, monkeypatch, options, message):
    monkeypatch.setenv("PATH", str(folder))
    done = call("submit", "slurm", "twelve.toml", *options, "--out", "out")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    call("submit", "slurm", "twelve.toml", *options)
    assert sorted(path.name for path in folder.iterdir()) == PLANS
    assert "expected slurm, got 'pbs'" in call("submit", "pbs", "twelve.toml").stderr


def test_what_sbatch_refuses_leaves_nothing(call, folder, monkeypatch):
    refuse = 'case "$*" in *dependency*) echo "Invalid  account" >&2; exit 1;; esac; echo 7'
    programs(folder, monkeypatch, sbatch=refuse, scancel='echo "$@" > cancelled')
    done = call("submit", "slurm", "twelve.toml", "--out", "out")
    assert (done.returncode, "sbatch refused: Invalid account; change the options" in done.stderr) == (2, True)
    assert (Path("out").exists(), Path("cancelled").read_text()) == (False, "7\n")
    Path("full").mkdir()
    Path("full/file").touch()
    assert "expected a new or empty folder" in call("submit", "slurm", "twelve.toml", "--out", "full").stderr


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm())
def test_a_node_that_goes_down_loses_nothing(call, folder):
    """12 cases over two nodes; one is taken down in the middle, and later comes back."""
    with cluster(folder / "cluster"):
        done = call("submit", "slurm", "twelve.toml", "--array", "4", "--out", "out")
        assert done.returncode == 0, done.stderr

        def stored():
            return sum(len(path.read_bytes().splitlines()) for path in Path("out").glob("shards/*/results.jsonl"))

        wait_for(lambda: stored() >= 1 and "n2" in told("squeue", "--noheader", "--format=%N"), folder, 300)
        lost = told("squeue", "--noheader", "--nodelist=n2", "--format=%i")
        told("scontrol", "update", "nodename=n2", "state=down", "reason=test")
        assert stored() < 12
        wait_for(lambda: not told("squeue", "--noheader"), folder, 500)  # a requeued task starts after two minutes; n2 is back by itself
        logs = {path.name: path.read_text() for path in Path("out/slurm").glob("*.log")}
    assert "DUE TO NODE FAILURE" in logs[f"shard-{lost.partition('_')[2]}.log"]
    results = load_results(Path("out/all"))
    assert sorted(result.case.slots for result in results) == [8 * size for size in range(1, 13)], logs
    assert {(result.status, result.attempt) for result in results} == {("ok", 1)}
    assert len(load_run(Path("out/all"))["merged"]) == 4
    assert Path("out/all/report/report.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm())
def test_a_study_outlives_a_node(call, folder):
    """A study that chooses, over two nodes; one is taken down in the middle of the choice."""
    Path("two.toml").write_text(STUDY.format(sequences=12_000))
    with cluster(folder / "cluster"):
        done = call("submit", "slurm", "two.toml", "--memory", "1G", "--array", "2", "--out", "out")
        assert done.returncode == 0, done.stderr

        def shard():
            return told("squeue", "--noheader", "--nodelist=n2", "--states=RUNNING", "--format=%K")

        wait_for(lambda: shard() and Path(f"out/choosing-shards/{shard()}/run.json").is_file(), folder, 300)
        lost = shard()
        told("scontrol", "update", "nodename=n2", "state=down", "reason=test")
        wait_for(lambda: not told("squeue", "--noheader"), folder, 590)
        logs = {path.name: path.read_text() for path in Path("out/slurm").glob("*.log")}
    assert "DUE TO NODE FAILURE" in logs[f"choosing-shard-{lost}.log"], logs
    runs = load_records(Path("out/all"), LEARNING)
    assert sorted((run.case.model, run.case.seed) for run in runs) == [(model, seed) for model in ("lstm", "sam") for seed in (0, 7, 7)], (
        logs
    )
    assert {run.status for run in runs} <= {"ok", "budget"}
    assert Path("out/all/report/learning.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm())
def test_training_whose_time_is_over_goes_on_from_its_checkpoint(call, folder):
    """A run longer than its job's time limit: Slurm sends TERM two minutes before it, and the job requeues itself."""
    Path("long.toml").write_text(LONG.format(limit='seconds = "130s"'))
    with cluster(folder / "cluster"):
        done = call("submit", "slurm", "long.toml", "--memory", "1G", "--array", "1", "--time", "4", "--out", "out")
        assert done.returncode == 0, done.stderr
        wait_for(lambda: not told("squeue", "--noheader"), folder, 590)
        log = Path("out/slurm/shard-1.log").read_text()
    assert "stopped by SIGTERM" in log, log
    (run,) = load_records(Path("out/all"), LEARNING)
    assert (run.status, run.resumed >= 1, 130 <= run.wall_s < 150) == ("budget", True, True), log
    Path("long.toml").write_text(LONG.format(limit=f"sequences = {run.sequences}"))
    assert call("learn", "long.toml", "--memory", "1G", "--out", "alone").returncode == 0
    (alone,) = load_records(Path("alone"), LEARNING)
    curve, expected = ([point.model_dump(exclude={"wall_s"}) for point in each.curve] for each in (run, alone))
    assert (alone.resumed, curve) == (0, expected)
