"""The fingerprint, and what the doctor reports of a machine that lacks some parts."""

import json

from mann_bench.doctor import examine as doctor
from mann_bench.machine import environment


def test_fingerprint_is_json_and_names_what_matters(monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setenv("SECRET_TOKEN", "do not record")
    facts = json.loads(json.dumps(environment.fingerprint()))
    assert facts["torch"]
    assert facts["cpu"]
    assert facts["ram_bytes"] > 2**28
    assert facts["allocator"]["MALLOC_MMAP_MAX_"] == "0"
    assert facts["variables"]["OMP_PROC_BIND"] == "true"
    assert "SECRET" not in json.dumps(facts)
    assert {"cpu_quota", "allocator_library"} <= set(facts)


def test_doctor_without_compiler_gpu_or_faiss(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(environment, "gpus", lambda: [])
    monkeypatch.setattr(environment, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(f"No module named {name!r}")))
    found = {finding.part: finding for finding in doctor.examine()}
    assert found["c++ compiler"].state == "missing"
    assert "install g++" in found["c++ compiler"].detail
    assert found["gpu"].state == "missing"
    assert found["cpu"].detail.endswith("threads usable, a quota of 0.5 processors")
    assert "mann-bench[cpu]" in found["faiss"].detail
    assert found["torch"].state == "ok"


def test_doctor_shows_a_gpu_with_unknown_facts(monkeypatch):
    gpu = {"name": "H100", "uuid": "unknown", "memory_bytes": None, "driver": "unknown"}
    monkeypatch.setattr(environment, "gpus", lambda: [gpu])
    found = {finding.part: finding for finding in doctor.examine()}
    assert found["gpu"].detail == "H100, memory unknown, driver unknown"
