"""Names of processors, including those without one, and how many threads may be used."""

import pytest

from mann_bench.machine import processor

ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd aes crc32
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""
NAMED = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu avx2\n\n" * 2


@pytest.fixture(autouse=True)
def _arm(monkeypatch):
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (NAMED, "AMD EPYC 7763"),
        ("cpu\t\t: POWER9 (architected), altivec supported\nclock\t: 2500MHz\n", "POWER9 (architected), altivec supported"),
        ("hart\t: 0\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n", "aarch64: uarch sifive,u74-mc, isa rv64imafdc"),
        ("", ""),
        ("processor\t: 0\n", ""),
    ],
)
def test_names(cpuinfo, name):
    assert processor.name_from(cpuinfo) == name


@pytest.mark.parametrize("change", [("0xd0c", "0xd4f"), ("crc32", "sve bf16"), ("0x41", "0x46"), ("variant\t: 0x3", "variant\t: 0x1")])
def test_processors_without_a_name_are_told_apart(change):
    one, other = processor.name_from(ARM), processor.name_from(ARM.replace(*change))
    assert one.startswith("aarch64: implementer 0x41, architecture 8, variant 0x3, part 0xd0c, revision 1, features ")
    assert one == processor.name_from(ARM + ARM.replace("processor\t: 0", "processor\t: 1"))
    assert one != other


def test_cores_of_two_kinds_are_both_named():
    assert "part 0xd0c/0xd05, " in processor.name_from(ARM + ARM.replace("0xd0c", "0xd05"))


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (0.5, 1), (1.0, 1), (2.5, 3), (64.0, 4)])
def test_threads_that_the_quota_pays_for(monkeypatch, quota, threads):
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(processor, "cpu_quota", lambda: quota)
    assert processor.usable_threads() == threads
