"""Signals that ask a command to end."""

import contextlib
import os
import signal
import sys
import threading
import time
import weakref

import pytest

from mann_bench.cli import app as cli
from mann_bench.cli import stopping
from mann_bench.cli.stopping import STOPPING, Stopped, stopped_by_signals


@pytest.fixture(autouse=True)
def main_thread():
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("number", STOPPING)
def test_each_signal_raises_an_exception_that_except_exception_does_not_catch(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, stopped_by_signals(), contextlib.suppress(Exception):
        os.kill(os.getpid(), number)
    assert (stopped.value.name, stopped.value.exit_code) == (number.name, 128 + number)
    assert signal.getsignal(number) is before


def test_a_second_signal_is_ignored_if_it_follows_soon_and_ends_at_once_later(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    with stopped_by_signals():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        clock[0] = 0.5
        os.kill(os.getpid(), signal.SIGHUP)
        clock[0] = 5.0
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)


class SignalsInItsEnd:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGHUP)


def in_a_finalizer():
    SignalsInItsEnd()


def in_a_callback_of_a_weak_reference():
    watched = threading.Event()
    reference = weakref.ref(watched, lambda _: os.kill(os.getpid(), signal.SIGHUP))
    del watched
    assert reference() is None


@pytest.mark.parametrize("somewhere", [in_a_finalizer, in_a_callback_of_a_weak_reference])
def test_a_signal_where_python_drops_exceptions_ends_the_command_all_the_same(somewhere):
    hook, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with pytest.raises(Stopped) as stopped, stopped_by_signals():
        somewhere()
        for _ in range(100):
            time.sleep(0.05)
    assert stopped.value.name == "SIGHUP"
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == (hook, alarm)


def test_other_exceptions_that_python_drops_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_value))

    class Fails:
        def __del__(self):
            raise ValueError("no")

    with stopped_by_signals():
        Fails()
    assert [type(error) for error in told] == [ValueError]


def test_a_signal_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_names_the_signal_that_ended_it(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
