"""Slurm: array jobs whose tasks are the shards of a suite or a study, each followed by a job that joins them; the last reports too.

A suite takes one array. So does a study, unless runs of it choose for others that are reported: then a first array makes those that choose.
"""

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
mkdir -p {shards} {shards}.locks
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
JOIN_SCRIPT = """\
#!/bin/bash
{settings}
#SBATCH --requeue
#SBATCH --open-mode=append

# Joins what is there{and_reports}; what is missing is said in this job's output.
cd {folder} || exit 1
shopt -s nullglob
test -s {joined}/run.json || {program} merge {parts} --out {joined} || exit
{report}"""


@dataclass(frozen=True)
class Round:
    """An array of shards, and the job that joins them.

    Attributes:
        array: name of the array's script, of its logs, and with an s of the folder for its shards.
        join: name of the joining job's script and log.
        joined: folder that it makes.
        before: folder that an earlier round has made; its runs are joined too, and the shards take their choice from it.
    """

    array: str = "shard"
    join: str = "merge"
    joined: str = "all"
    before: str = ""


ONE_ROUND = (Round(),)
CHOICE_FIRST = (Round("choosing-shard", "merge-choosing", "chosen"), Round(before="chosen"))


@dataclass(frozen=True)
class ArrayJob:
    """What is submitted.

    Attributes:
        name: of the suite or study.
        command: arguments of `mann-bench` that every shard shares, without --shard, --out and --resume.
        count: of shards.
        out: folder for shards, scripts and the joined results.
        settings: further options of sbatch for the shards, as `--time=4:00:00`.
        others: options of sbatch for all jobs, as `--partition=long`.
        rounds: arrays, one after the other.
    """

    name: str
    command: Sequence[str]
    count: int
    out: Path
    settings: Sequence[str] = ()
    others: Sequence[str] = ()
    rounds: Sequence[Round] = ONE_ROUND

    @property
    def scripts(self) -> dict[str, str]:
        """The text of the scripts, by file name, in the order in which they run."""
        return {file: text for part in self.rounds for file, text in self._scripts_of(part, is_last=part is self.rounds[-1])}

    def _scripts_of(self, part: Round, *, is_last: bool) -> list[tuple[str, str]]:
        out = self.out.resolve()
        program = shlex.join([sys.executable, "-m", "mann_bench"])
        shards, joined, before = (shlex.quote(str(out / name)) for name in (f"{part.array}s", part.joined, part.before))
        folder = shlex.quote(str(Path.cwd()))
        of_shards = [
            *(f"--job-name=mann-bench-{self.name}", f"--array=1-{self.count}", "--nodes=1", "--ntasks=1"),
            *("--exclusive", f"--output={shlex.quote(f'{out}/slurm/{part.array}-%a.log')}", *self.settings, *self.others),
        ]
        of_join = [
            f"--job-name=mann-bench-{self.name}-merge",
            "--ntasks=1",
            f"--output={shlex.quote(f'{out}/slurm/{part.join}.log')}",
            *self.others,
        ]
        command = f"{program} {shlex.join(self.command)}" + (f" --chosen {before}" if part.before else "")
        shard = SHARD_SCRIPT.format(
            settings=_lines(of_shards), command=command, count=self.count, stop_s=STOP_S, lock_s=LOCK_S, folder=folder, shards=shards
        )
        join = JOIN_SCRIPT.format(
            settings=_lines(of_join),
            program=program,
            folder=folder,
            parts=f"{before} {shards}/*" if part.before else f"{shards}/*",
            joined=joined,
            and_reports=" and reports it" if is_last else "",
            report=f"{program} report {joined}\n" if is_last else "",
        )
        return [(f"{part.array}.sh", shard), (f"{part.join}.sh", join)]

    def submit(self) -> list[str]:
        """Write the scripts and submit the jobs, each after the one before.

        Returns:
            The ids of the jobs.

        Raises:
            UsageError: sbatch refuses, or the folder holds files; nothing is left then.
        """
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UsageError(f"--out {self.out}: expected a new or empty folder, got one with files; name another")
        jobs: list[str] = []
        try:
            (self.out / "slurm").mkdir(parents=True)
            for name, text in self.scripts.items():
                write_atomically(self.out / "slurm" / name, text)
            for name in self.scripts:
                jobs.append(_sbatch(self.out / "slurm" / name, *([f"--dependency=afterany:{jobs[-1]}"] if jobs else [])))
        except BaseException:
            if jobs:
                subprocess.run(["scancel", *jobs], check=False, capture_output=True, timeout=SUBMIT_S)
            shutil.rmtree(self.out / "slurm", ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds what others have put there meanwhile
                self.out.rmdir()
            raise
        return jobs


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
