"""The fingerprint, and what the doctor makes of a machine without this or that."""

import json

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.doctor import examine as doctor
from mann_bench.machine import environment


def test_fingerprint_is_json_and_names_what_matters():
    facts = json.loads(json.dumps(environment.fingerprint()))
    assert facts["torch"]
    assert facts["cpu"]
    assert facts["ram_bytes"] > 2**28
    assert facts["allocator"]["MALLOC_MMAP_MAX_"] == "0"


def test_worker_environment_holds_threads():
    assert environment.worker_environment(3)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cpu:0", "cuda:x", ""])
def test_unknown_device(device):
    with pytest.raises(UsageError, match="expected cpu, cuda or cuda:N"):
        environment.check_device(device)


def test_no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert environment.why_no_device("cpu") is None
    assert "no NVIDIA GPU" in str(environment.why_no_device("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert environment.why_no_device("cuda:0") is None
    assert "numbered 0..0" in str(environment.why_no_device("cuda:1"))


def test_doctor_without_compiler_gpu_or_faiss(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(environment, "gpus", lambda: [])
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(f"No module named {name!r}")))
    found = {finding.part: finding for finding in doctor.examine()}
    assert found["c++ compiler"].state == "missing"
    assert "install g++" in found["c++ compiler"].detail
    assert found["gpu"].state == "missing"
    assert "mann-bench[cpu]" in found["faiss"].detail
    assert found["torch"].state == "ok"
