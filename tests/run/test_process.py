"""The driver and a worker process: pipes, kept output, and that no process is left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from mann_bench.learn.processes import TrainingProcess
from mann_bench.run import process
from mann_bench.run.process import Code, WorkerProcess, most_workers
from mann_bench.run.replies import Failure, Killed
from mann_bench.run.words import OUTPUT_CHARACTERS
from tests.support.code_process import CodeProcess

ROOT = Path(__file__).parents[2]


@pytest.fixture
def worker():
    worker = CodeProcess(1)
    yield worker
    worker.kill()


def is_gone(pid, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def test_printed_text_does_not_reach_the_reply_pipe(worker, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("print('welcome to this cluster', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    greeted = CodeProcess(1)
    assert greeted.run("print('{}', flush=True); answer = 1") == 1
    assert greeted.run("import os; os.write(1, b'a C library\\n'); os.write(2, b'and \\xff\\x1b[2J\\n'); answer = 2") == 2
    greeted.quit()
    assert greeted.output == "welcome to this cluster\n{}\na C library\nand \ufffd[2J\n"
    assert worker.run("answer = 3") == 3
    worker.quit()
    assert worker.output is None


def test_standard_input_is_empty(worker):
    assert "EOFError" in worker.run("input()")
    assert "BdbQuit" in worker.run("breakpoint()")


def test_garbage_collection_leaves_out_what_was_imported(worker):
    assert worker.run("import gc, json; answer = gc.get_freeze_count() > 1000 and not any(it is json for it in gc.get_objects())")


def test_the_end_of_a_gigabyte_of_output_is_kept(worker):
    assert worker.run("import os\nfor _ in range(500): os.write(1, b'x' * 2**18)\nprint('the end', flush=True); answer = 1") == 1
    worker.quit()
    assert len(worker.printed) == 32 * 2**10
    assert len(worker.output) == OUTPUT_CHARACTERS
    assert worker.output.endswith("xxxthe end\n")


def test_a_forked_copy_of_the_worker_sends_no_reply(worker):
    assert worker.run("import os; answer = os.fork() and 'the worker'") == "the worker"
    assert worker.run("answer = 'still the worker'") == "still the worker"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("channel.send({'number': 1, 'reply': {}})", "expected"),
        ("channel.send({'number': 0, 'reply': {}}); import time; time.sleep(60)", "expected a reply of the worker"),
        ("channel._replies.write(b'garbage\\n'); channel._replies.flush(); import time; time.sleep(60)", "b'garbage'"),
    ],
)
def test_a_second_or_a_strange_reply_is_an_error_of_the_case(worker, code, reason):
    replies = [worker.run(code)]
    if not isinstance(replies[0], Failure):  # the second reply was not there yet
        replies.append(worker.run(""))
    assert replies[-1].status == "error"
    assert reason in replies[-1].reason


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("print('fatal: the licence server is down', flush=True); os.abort()", "error", "SIGABRT: fatal: the licence server is down"),
        (r"print('terminate called\n  what():  std::bad_alloc', flush=True); os.abort()", "oom", "outside torch: what():  std::bad_alloc"),
        ("import faulthandler; faulthandler._sigsegv()", "error", 'killed by SIGSEGV: File "<string>", line 1 in <module>'),
        ("print('bye', flush=True); os._exit(3)", "error", "exited with code 3: bye"),
    ],
)
def test_the_reason_of_an_end_is_what_the_process_printed(worker, code, status, reason):
    reply = worker.run(f"import os; {code}")
    assert (type(reply), reply.status) == (Failure, status)
    assert reply.reason.endswith(reason)
    assert "Extension modules" not in reply.reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_from_outside_is_not_an_error_of_the_case(worker, number):
    reply = worker.run(f"import os; os.kill(os.getpid(), {int(number)})")
    assert reply == Killed(status="error", reason=f"killed by {number.name}")


def test_a_signal_to_the_warden_reaches_the_worker(worker):
    assert worker.run("import signal; signal.signal(signal.SIGTERM, lambda *_: print('asked to stop', flush=True))") is None
    worker.stop()
    assert worker.run("import time; time.sleep(0.5); answer = 1") == 1
    worker.quit()
    assert worker.output == "asked to stop\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", [WorkerProcess, pytest.param(TrainingProcess, marks=pytest.mark.slow)])
def test_ctrl_c_while_a_worker_imports_is_no_fault_of_the_case(kind):
    """A KeyboardInterrupt there may come out as an ImportError, or as a fatal error of Python: it is held back."""
    worker = kind(1)
    warden = psutil.Process(worker._process.pid)
    while not (child := ([*warden.children(), None])[0]) or "torch" not in Path(f"/proc/{child.pid}/maps").read_text():
        time.sleep(0.005)
    blocked = int(Path(f"/proc/{child.pid}/status").read_text().partition("SigBlk:")[2].split()[0], 16)
    child.send_signal(signal.SIGINT)
    reply = worker.wait_until_started()
    worker.kill()
    assert blocked & 1 << (signal.SIGINT - 1)
    assert reply == Killed(status="error", reason="killed by SIGINT")


def test_a_worker_outlives_the_thread_that_started_it():
    made = []
    thread = threading.Thread(target=lambda: made.append(CodeProcess(1)))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert made[0].run("answer = 1") == 1
    made[0].kill()


LEAVES_PROCESSES = """
import os, subprocess
answer = [os.getpid(), subprocess.Popen(["sleep", "600"]).pid, subprocess.Popen(["sleep", "600"], start_new_session=True).pid]
read, write = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():  # a daemon: its parent is gone
        os.write(write, str(os.getpid()).encode())
        os.execvp("sleep", ["sleep", "600"])
    os._exit(0)
answer.append(int(os.read(read, 20)))
"""


@pytest.mark.parametrize("end", ["kill", "quit", "death"])
def test_nothing_is_left_of_what_a_worker_started(worker, end):
    pids = worker.run(LEAVES_PROCESSES)
    if end == "death":
        assert isinstance(worker.run("import os; os._exit(0)"), Failure)
    getattr(worker, end, worker.kill)()
    assert all(is_gone(pid, 0.1) for pid in pids)


DRIVER = """
import sys, threading
from tests.support.code_process import CodeProcess
worker = CodeProcess(1)
print(*worker.run(sys.argv[1]), flush=True)
worker.run("import ctypes; ctypes.PyDLL(None).sleep(600)")  # hangs, and holds the interpreter
"""


def test_nothing_is_left_of_a_hung_worker_whose_driver_is_killed():
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, LEAVES_PROCESSES], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 4
    driver.kill()
    driver.communicate()
    assert all(is_gone(pid) for pid in pids)


def test_a_worker_ends_with_its_driver_while_it_still_starts(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os, time\nif 'SLOW' in os.environ: time.sleep(600)")
    program = (
        "import os; from tests.support.code_process import CodeProcess; os.environ['SLOW'] = '1';"
        "worker = CodeProcess(1); print(worker._process.pid, flush=True); worker.wait(99)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert driver.stdout is not None
    warden = psutil.Process(int(driver.stdout.readline()))
    until = time.monotonic() + 10
    while not (workers := warden.children()) and time.monotonic() < until:
        time.sleep(0.01)
    driver.kill()
    driver.communicate()
    assert is_gone(warden.pid)
    assert is_gone(workers[0].pid)


OLD_WORKER = """
import json, os, sys
print("noise", file=sys.stderr)
for line in sys.stdin:
    command = json.loads(line)
    if command == {"do": "quit"}: break
    assert command == {"do": "run", "code": ""} and sys.argv[1:] == ["3"]
    print(json.dumps({"answer": [os.environ["OMP_NUM_THREADS"], os.getcwd() in sys.path]}), flush=True)
"""


def test_a_worker_of_an_older_commit_uses_standard_input_and_output(tmp_path):
    (tmp_path / "tests" / "support").mkdir(parents=True)
    for package in ("tests", "tests/support"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "tests" / "support" / "code_worker.py").write_text(OLD_WORKER)
    worker = CodeProcess(3, Code(tmp_path))
    assert worker.run("") == ["3", True]
    worker.quit()
    assert worker.output == "noise\n"


def test_folders_of_the_user_come_before_installed_packages_and_after_python(tmp_path):
    own, here = tmp_path / "own", tmp_path / "here"
    for folder in (own, here):
        folder.mkdir()
        for module in ("typer", "sched", "mine"):
            (folder / f"{module}.py").touch()
    worker = CodeProcess(1, Code(folder=here, own_folders=(own,)))
    code = "import importlib.util, os; answer = [os.getcwd()] + [importlib.util.find_spec(n).origin for n in ('typer', 'sched', 'mine')]"
    folder, typer, sched, mine = worker.run(code)
    worker.quit()
    assert (folder, typer, mine) == (str(here), str(own / "typer.py"), str(own / "mine.py"))
    assert not sched.startswith(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_worker_and_what_it_starts_stay_on_its_processors():
    cpu = max(os.sched_getaffinity(0))
    worker = CodeProcess(1, cpus=[cpu])
    assert worker.run("import os; answer = [*os.sched_getaffinity(0), os.popen('nproc').read().strip()]") == [cpu, "1"]
    worker.kill()


def test_a_file_of_the_users_hides_no_module_but_is_found(tmp_path, monkeypatch):
    for name in ("random", "statistics", "own"):
        (tmp_path / f"{name}.py").write_text("x = 1")
    (tmp_path / "mann_bench").mkdir()
    (tmp_path / "mann_bench" / "__init__.py").write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    worker = CodeProcess(1)
    assert worker.run("import random, statistics, mann_bench, own; answer = [m.__file__ for m in (mann_bench, own)]") == [
        str(ROOT / "mann_bench" / "__init__.py"),
        str(tmp_path / "own.py"),
    ]
    assert worker.run("answer = [hasattr(module, 'x') for module in (random, statistics)]") == "NameError(\"name 'random' is not defined\")"
    worker.kill()


def test_as_many_workers_as_files_may_be_open(monkeypatch):
    limits = [(64, 64)]
    monkeypatch.setattr("mann_bench.run.process.resource.getrlimit", lambda which: limits[0])
    assert 1 <= most_workers(1) < 12
    limits[0] = (1024, 1024)
    assert most_workers(1) > 150
    limits[0] = (8, 8)
    assert most_workers(64) == 1


def test_a_worker_that_cannot_be_started_leaves_no_open_file(monkeypatch):
    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match="Too many"):
        CodeProcess(1)
    assert os.listdir("/dev/fd") == before
