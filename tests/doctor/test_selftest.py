"""The self-test finds planted faults, or reports that it cannot; it runs on a fake clock."""

import os
import random
import sys

from mann_bench.doctor.selftest import Ratio, ceilings, in_turn, overhead, planted_leak, planted_slowdown, silent_libraries
from tests.support.fakes import FakeDevice


class Machine(FakeDevice):
    """A machine on which time is the amount of work, times noise and drift."""

    def __init__(self, noise=0.0, drift=0.0):
        super().__init__([0.0])
        self.noise, self.drift, self.random = noise, drift, random.Random(0)

    def work(self, amount):
        def one_pass():
            slower = 1 + self.drift * self.clock.now + self.random.uniform(0, self.noise)
            self.clock.now += 1e-5 * amount * slower

        return one_pass


def states(findings):
    return {finding.part: finding.state for finding in findings}


def test_a_planted_slowdown_is_found_on_a_quiet_and_on_a_drifting_machine():
    for machine in (Machine(0.02), Machine(0.02, drift=0.05)):
        findings = planted_slowdown(machine, machine.work)
        assert set(states(findings).values()) == {"ok"}, findings
        assert findings[1].detail.startswith(("+2.9%", "+3.0%", "+3.1%"))


def test_a_machine_too_noisy_fails_and_says_what_to_do():
    machine = Machine(3.0)
    found = planted_slowdown(machine, machine.work, rounds=8)
    assert states(found)["3% more work"] == "failed"
    assert "the machine is too busy" in found[1].detail


def test_noise_is_not_called_ok():
    machine = Machine(3.0)
    found = planted_slowdown(machine, machine.work, rounds=8)
    assert (states(found)["same work"], states(found)["smallest change"]) == ("noise", "noise")
    assert found[0].detail.endswith("expect to see larger changes only")
    few, _ = ceilings(FakeDevice([0.8]), copy_bytes=10**6, matrix=10)
    assert few.state == "noise"
    assert "from 2 samples" in few.detail


def test_libraries_are_silent_and_the_rest_is_not(capfd):
    with silent_libraries():
        os.write(2, b"a stray line")
    print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"


def test_the_smallest_change_is_half_the_interval():
    assert abs(Ratio(1.0, 0.99, 1.03, 9).half_width - 0.02) < 1e-9
    quiet, noisy = (in_turn(machine, machine.work(100), machine.work(100), 20) for machine in (Machine(0.01), Machine(0.5)))
    assert quiet.half_width < noisy.half_width


def test_a_planted_leak_is_found():
    finding = planted_leak()
    assert finding.state == "ok"
    assert "8 MiB found where 8 MiB leak, 0 B where nothing does" in finding.detail


def test_ceilings_are_rates():
    copy, product = ceilings(FakeDevice([0.1]), copy_bytes=10**6, matrix=10)
    assert "0.02 GB/s read and written [0.02, 0.02]" in copy.detail
    assert "2e-05 GFLOP/s" in product.detail


def test_overhead_of_sampling_is_a_ratio_of_two_loops_in_turn():
    from mann_bench.measure.device import Cpu

    finding = overhead(Cpu(), rounds=3)
    assert finding.part == "timing overhead"
    assert "% [" in finding.detail
