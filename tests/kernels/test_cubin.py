"""The machine code of the CUDA build: no slower to issue, no larger and no more spilled than it was made. It needs nvcc, and no GPU."""

import re
import shutil

import pytest

from mann_bench.kernels.native import build
from mann_bench.kernels.native import cubin as cuda
from tests.support.cubins import Kernel, kernels

RELEASE = "13.0"  # of nvcc: the limits are those of its code
REGISTERS = 128  # more, and a block of 512 threads does not fit
# The most instructions, and instructions that load from or store to the stack. Just above what is reached.
LIMITS = {
    "mb_forward": (15_200, 6),
    "mb_forward_step": (15_400, 40),
    "mb_forward_cluster": (15_000, 54),
    "mb_backward": (9_600, 0),
    "mb_backward_cluster": (7_700, 28),
    "mb_search_part": (1_850, 0),
    "mb_lsh_query": (3_500, 0),
    "mb_lsh_update": (1_500, 0),
    "mb_lsh_hash": (1_600, 0),
    "mb_topk_part": (1_850, 0),
    "mb_link_steps": (2_300, 0),
    "mb_link_update": (1_050, 0),
    "mb_undo": (1_700, 0),
    "mb_redo": (900, 0),
    "mb_output": (600, 0),  # one product of rows; it and the next are not launched on a GPU, but show what a product takes
    "mb_output_back": (1_100, 0),  # one product of columns
}


@pytest.fixture(scope="module")
def found() -> dict[str, Kernel]:
    """The kernels for sm_90, float32 and words of 32 numbers."""
    try:
        by = cuda.nvcc()
    except build.BuildError as error:
        pytest.skip(str(error))
    if f"release {RELEASE}," not in by.version:
        pytest.skip(f"the limits are for the code of nvcc {RELEASE}, not of {re.findall('release [^,]*', by.version)}")
    made = [cuda.compile_kernels("sm_90", "float32", "float32", 32, cluster, by) for cluster in (0, cuda.CLUSTER_BLOCKS)]
    return {name: kernel for path in made for name, kernel in kernels(path).items()}


@pytest.mark.parametrize("name", LIMITS)
def test_size_and_spills(name, found):
    kernel, (instructions, on_stack) = found[name], LIMITS[name]
    assert kernel.instructions <= instructions
    assert kernel.kinds["LDL"] + kernel.kinds["STL"] <= on_stack


def test_registers(found):
    """`mb_input` alone has a local array: it is not launched on a GPU."""
    assert {name for name, kernel in found.items() if kernel.registers > REGISTERS} == set()
    assert {name for name, kernel in found.items() if kernel.stack_bytes > (96 if kernel.cluster_blocks else 48)} == {"mb_input"}


@pytest.mark.parametrize(
    ("name", "wide_loads", "multiply_adds"),
    [("mb_output", 5, 32), ("mb_output_back", 16, 80), ("mb_forward", 15, 96), ("mb_forward_step", 15, 96), ("mb_backward", 48, 240)],
)
def test_products_load_16_bytes_and_multiply_and_add_in_one_instruction(name, wide_loads, multiply_adds, found):
    """A product stands there twice: by loads of 16 bytes where the rows of its matrix are aligned, else number by number.

    Of rows: four rows and the vector, 16 weights. Of columns: 16 rows, of which a thread has four columns or one.
    """
    assert found[name].kinds["LDG.128"] >= wide_loads
    assert found[name].kinds["FFMA"] >= multiply_adds


def test_clusters_wait_for_each_other_and_multiply_from_shared_memory(found):
    """Each has two products, of four rows and a vector by loads of 16 bytes. A barrier of a cluster is two instructions."""
    in_clusters = {name: kernel for name, kernel in found.items() if kernel.cluster_blocks}
    assert set(in_clusters) == {"mb_forward_cluster", "mb_backward_cluster"}
    for kernel in in_clusters.values():
        assert kernel.cluster_blocks == cuda.CLUSTER_BLOCKS
        assert kernel.kinds["UCGABAR"] >= 2 * 3
        assert kernel.kinds["LDS.128"] == kernel.kinds["LDS"] == 2 * 5
        assert kernel.kinds["FFMA"] >= 2 * 4 * 4
    assert all(kernel.kinds["UCGABAR"] == 0 for name, kernel in found.items() if name not in in_clusters)


def test_a_warp_counts_in_one_instruction(found):
    """The nearest candidates of a query are found by bisection: six counts over all of them."""
    assert found["mb_lsh_query"].kinds["REDUX"] >= 1


def test_what_the_file_says_is_what_the_disassembler_reads(found):
    """Only where NVIDIA's disassembler is installed."""
    if not (program := shutil.which("nvdisasm")):
        pytest.skip("nvdisasm is not installed")
    sections: dict[str, str] = {}
    for cluster in (0, cuda.CLUSTER_BLOCKS):
        path = cuda.compile_kernels("sm_90", "float32", "float32", 32, cluster, cuda.nvcc())
        code, text, words = build.run_compiler(program, "-c", str(path), timeout_s=60)
        assert code == 0, words
        sections |= dict(re.findall(r"^\.text\.(\w+):\n(.*?)(?=^\.text\.|\Z)", text, re.MULTILINE | re.DOTALL))
    for name, kernel in found.items():
        opcodes = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", sections[name])
        for kind in ("FFMA", "LDG", "LDL", "STL", "LDS", "REDUX", "UCGABAR"):
            assert kernel.kinds[kind] == sum(re.split(r"[._]", opcode)[0] == kind for opcode in opcodes), (name, kind)
        for kind in ("LDG", "LDS"):
            assert kernel.kinds[f"{kind}.128"] == sum(opcode.startswith(kind) and ".128" in opcode for opcode in opcodes)
