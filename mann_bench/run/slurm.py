"""Slurm: one array job whose tasks are the shards of a suite, and a last job that joins and reports them."""

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mann_bench.data.errors import UsageError
from mann_bench.data.files import write_atomically

STOP_S = 120  # before its time limit a task is told to end: training writes a checkpoint, a driver its results
LOCK_S = 3600  # for the task that had the shard before to end: a node that is marked down may still run it
SUBMIT_S = 60

SHARD_SCRIPT = """\
#!/bin/bash
{settings}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@{stop_s}

# One shard. A task that was requeued (its node failed, or its time was over) goes on with what is stored.
cd {folder} || exit 1
shard=$SLURM_ARRAY_TASK_ID
out={shards}/$shard
mkdir -p {shards}
exec 9>{shards}.locks/$shard
flock --wait {lock_s} 9  # a node that Slurm gave up may still be at work
resume=()
test -s "$out/run.json" && resume=(--resume)

{command} --shard "$shard/{count}" --out "$out" "${{resume[@]}}" &
driver=$!
requeue=
stop() {{
    kill -TERM $driver 2>/dev/null
    test "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T 2>/dev/null)" = RUNNING && requeue=yes  # its time is over; else: scancel
}}
trap stop TERM
wait $driver
code=$?
while kill -0 $driver 2>/dev/null; do wait $driver; code=$?; done
test -n "$requeue" && scontrol requeue "$SLURM_JOB_ID" && sleep 60
exit $code
"""
LAST_SCRIPT = """\
#!/bin/bash
{settings}
#SBATCH --requeue
#SBATCH --open-mode=append

# Joins the shards and reports them; what is missing is said in this job's output.
cd {folder} || exit 1
test -s {joined}/run.json || {program} merge {shards}/* --out {joined} || exit
{program} report {joined}
"""


@dataclass(frozen=True)
class ArrayJob:
    """What is submitted.

    Attributes:
        name: of the suite.
        command: arguments of `mann-bench` that every shard shares, without --shard, --out and --resume.
        count: of shards.
        out: folder for shards, scripts and the joined results.
        settings: further options of sbatch for the shards, as `--time=4:00:00`.
        others: options of sbatch for both jobs, as `--partition=long`.
    """

    name: str
    command: Sequence[str]
    count: int
    out: Path
    settings: Sequence[str] = ()
    others: Sequence[str] = ()

    @property
    def scripts(self) -> dict[str, str]:
        """The text of both scripts, by file name."""
        out = self.out.resolve()
        logs = shlex.quote(f"{out}/slurm/shard-%a.log"), shlex.quote(f"{out}/slurm/merge.log")
        program = shlex.join([sys.executable, "-m", "mann_bench"])
        common = {"folder": shlex.quote(str(Path.cwd())), "shards": shlex.quote(str(out / "shards"))}
        of_shards = [
            *(f"--job-name=mann-bench-{self.name}", f"--array=1-{self.count}", "--nodes=1", "--ntasks=1"),
            *("--exclusive", f"--output={logs[0]}", *self.settings, *self.others),
        ]
        of_last = [
            f"--job-name=mann-bench-{self.name}-merge",
            "--ntasks=1",
            f"--output={logs[1]}",
            *self.others,
        ]
        command = f"{program} {shlex.join(self.command)}"
        return {
            "shard.sh": SHARD_SCRIPT.format(
                settings=_lines(of_shards), command=command, count=self.count, stop_s=STOP_S, lock_s=LOCK_S, **common
            ),
            "merge.sh": LAST_SCRIPT.format(settings=_lines(of_last), program=program, joined=shlex.quote(str(out / "all")), **common),
        }

    def submit(self) -> tuple[str, str]:
        """Write the scripts and submit both jobs.

        Returns:
            The ids of the array and of the last job.

        Raises:
            UsageError: sbatch refuses, or the folder holds files; nothing is left then.
        """
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UsageError(f"--out {self.out}: expected a new or empty folder, got one with files; name another")
        try:
            for folder in ("slurm", "shards.locks"):
                (self.out / folder).mkdir(parents=True)
            for name, text in self.scripts.items():
                write_atomically(self.out / "slurm" / name, text)
            array = _sbatch(self.out / "slurm" / "shard.sh")
            try:
                last = _sbatch(self.out / "slurm" / "merge.sh", f"--dependency=afterany:{array}")
            except UsageError:
                subprocess.run(["scancel", array], check=False, capture_output=True, timeout=SUBMIT_S)
                raise
        except BaseException:
            for folder in ("slurm", "shards.locks"):
                shutil.rmtree(self.out / folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds what others have put there meanwhile
                self.out.rmdir()
            raise
        return array, last


def require_sbatch() -> None:
    """Raise UsageError where there is no sbatch."""
    if shutil.which("sbatch") is None:
        raise UsageError("submit slurm: expected sbatch on this machine, got none; call it on a login node, or see --dry-run")


def _lines(options: Sequence[str]) -> str:
    return "\n".join(f"#SBATCH {option}" for option in options)


def _sbatch(script: Path, *options: str) -> str:
    """Submit a script and return the id of its job; UsageError with sbatch's own words if it refuses."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", *options, str(script)], capture_output=True, text=True, check=False, timeout=SUBMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"submit slurm: sbatch did not answer within {SUBMIT_S} s; is slurmctld running (`scontrol ping`)?") from error
    if done.returncode:
        raise UsageError(f"submit slurm: sbatch refused: {' '.join(done.stderr.split())}; change the options, nothing was submitted")
    return done.stdout.strip().partition(";")[0]
