"""A stand-in for the CUDA driver: what `driver.py` asks of it, as on a card with 132 multiprocessors and compute capability 9.0."""

import ctypes
from types import SimpleNamespace

import torch

from mann_bench.kernels.native import build, driver
from mann_bench.kernels.native import cubin as cuda
from mann_bench.kernels.native.arguments import Arguments


class FakeDriver:
    """A fake libcuda: a launch runs the host's entry point with the kernel's name on the same arguments."""

    def __init__(self):
        self.launches = []
        self.contexts = 0
        self.names = []
        self.most_shared_bytes = {}
        self.resident = {"mb_forward_cluster": 33, "mb_backward_cluster": 32}
        self.questions = []

    def cuDeviceGet(self, number, index):
        return 0

    def cuDevicePrimaryCtxRetain(self, context, number):
        context._obj.value = 7
        return 0

    def cuCtxPushCurrent_v2(self, context):
        assert context.value == 7
        self.contexts += 1
        return 0

    def cuCtxPopCurrent_v2(self, context):
        self.contexts -= 1
        return 0

    def cuModuleLoadData(self, module, cubin):
        assert cubin == b"cubin"
        return 0

    def cuModuleGetFunction(self, kernel, module, name):
        self.names.append(name.decode())
        kernel._obj.value = len(self.names)
        return 0

    def cuFuncSetAttribute(self, kernel, attribute, value):
        assert (self.contexts, attribute) == (1, driver.MAX_DYNAMIC_SHARED_BYTES)
        self.most_shared_bytes[kernel.value] = value
        return 0

    def cuOccupancyMaxActiveClusters(self, count, kernel, config):
        assert self.contexts == 1
        name, asked = self.names[kernel.value - 1], config._obj
        assert asked.shared_bytes <= self.most_shared_bytes[kernel.value]
        assert (asked.stream, asked.attributes, asked.num_attributes) == (None, None, 0)
        self.questions.append((name, tuple(getattr(asked, field[0]) for field in driver.LaunchConfig._fields_[:7])))
        count._obj.value = self.resident[name]
        return 0

    def cuGetErrorString(self, code, text):
        text._obj.value = b"what went wrong"
        return 0

    def cuLaunchKernel(self, kernel, x, y, z, threads, _y, _z, shared, stream, parameters, extra):
        assert (self.contexts, y, z, threads, stream.value, extra) == (1, 1, 1, cuda.THREADS, 5, None)
        name, arguments = self.names[kernel.value - 1], ctypes.cast(parameters[0], ctypes.POINTER(Arguments)).contents
        assert shared == (arguments.shared_bytes if name.endswith(driver.CLUSTER) else 0)
        assert shared <= self.most_shared_bytes.get(kernel.value, 0)
        self.launches.append((name, x))
        getattr(build.load("float32", "float32"), name.removesuffix(driver.CLUSTER))(ctypes.byref(arguments))
        return 0


def install(monkeypatch, folder):
    """Let `driver.py` call a stand-in, which loads anew what it is asked for, for kernels that need no compiler; returns it."""
    fake = FakeDriver()
    (folder / "cubin").write_bytes(b"cubin")
    for name in ("_primary_context", "_module", "_kernel"):
        monkeypatch.setattr(driver, name, getattr(driver, name).__wrapped__)
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    monkeypatch.setattr(cuda, "compile_kernels", lambda *_, **__: folder / "cubin")
    card = SimpleNamespace(name="card", multi_processor_count=132, shared_memory_per_block_optin=232448)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    return fake
