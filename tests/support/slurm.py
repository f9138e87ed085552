"""A Slurm cluster of one machine: munge, slurmctld and two slurmd, in a folder of their own, started by a test and ended with it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
WAIT_S = 60
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/backfill
ReturnToService=2
MpiDefault=none
KillWait=5
MinJobAge=3600
{nodes}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str:
    """Why a cluster cannot be started here, or an empty text."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        return f"no {', '.join(missing)} here: `make cluster-test` installs Slurm"
    return "" if os.geteuid() == 0 else "slurmd runs as root only"


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start a cluster of nodes n1 and n2. Inside, `SLURM_CONF` names its configuration."""
    ports = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(f"NodeName={name} NodeHostname={host} Port={port} CPUs=1" for name, port in zip(("n1", "n2"), ports[1:], strict=True))
    (folder / "state").mkdir(parents=True)
    folder.chmod(0o755)
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, controller=ports[0], folder=folder, nodes=nodes))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ |= {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    own = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *own]
    try:
        with ExitStack() as stack:
            for command in (munge, ["slurmctld", "-D", "-c"], *(["slurmd", "-D", "-N", name] for name in ("n1", "n2"))):
                stack.enter_context(_running(command, folder / f"{command[0]}-{command[-1][:2]}.out"))
            wait_for(lambda: told("sinfo", "--noheader", "--format=%t %D").split() == ["idle", "2"], folder)
            yield
            told("scancel", "--user=root")
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def told(*command: str) -> str:
    """What a command of Slurm prints, or if it fails why: a controller that does not answer must not look like an empty queue."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    return done.stdout.strip() if done.returncode == 0 else f"{command[0]} failed: {done.stderr.strip()}"


def wait_for(condition, folder: Path, seconds: float = WAIT_S) -> None:
    """Wait until something holds; the logs of the cluster are in the error."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in folder.rglob("*.log"))
            raise TimeoutError(f"nothing came of it within {seconds:g} s\n{logs}")
        time.sleep(0.5)


@contextmanager
def _running(command: list[str], output: Path) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        time.sleep(0.5)  # each needs the one before
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
