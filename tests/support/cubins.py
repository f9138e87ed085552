"""What a cubin says of its kernels: size, registers, stack, kinds of instructions. Read from the ELF file, without NVIDIA's tools."""

import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION_BYTES = 16  # since compute capability 7.0
# The lowest nine bits of an instruction are its kind; the next three say where its operands are from.
KINDS = {
    **{0x023: "FFMA", 0x02B: "DFMA", 0x181: "LDG", 0x183: "LDL", 0x187: "STL", 0x184: "LDS"},
    **{0x1C4: "REDUX", 0x1C7: "UCGABAR"},  # a sum over a warp; to arrive at a barrier of a cluster or wait at it
}
REGISTERS, STACK = 0x2F, 0x11  # attributes of a kernel in `.nv.info`
CLUSTER = 0x3D  # and in `.nv.info.KERNEL`
OF_16_BYTES = 6  # code of a load's width


@dataclass
class Kernel:
    """One kernel. `kinds`: how many instructions of each of `KINDS`; LDG.128 and LDS.128 load 16 bytes, counted as LDG and LDS too."""

    instructions: int
    kinds: Counter[str]
    registers: int = 0
    stack_bytes: int = 0
    cluster_blocks: int = 0  # 0: it does not run as clusters


def kernels(cubin: Path) -> dict[str, Kernel]:
    """The kernels of a cubin by name."""
    elf = cubin.read_bytes()
    sections = {name: elf[start : start + size] for name, start, size in _sections(elf)}
    found = {name.removeprefix(".text."): _kernel(code) for name, code in sections.items() if name.startswith(".text.")}
    names = _symbols(sections[".symtab"], sections[".strtab"])
    for name, kernel in found.items():
        kernel.cluster_blocks = next((x for form, x, *_ in _attributes(sections[f".nv.info.{name}"], 12) if form == CLUSTER), 0)
    for attribute, symbol, value in _attributes(sections[".nv.info"], 8):
        if attribute == REGISTERS and names[symbol] in found:
            found[names[symbol]].registers = value
        if attribute == STACK and names[symbol] in found:
            found[names[symbol]].stack_bytes = value
    return found


def _kernel(code: bytes) -> Kernel:
    kinds: Counter[str] = Counter()
    for low, high in struct.iter_unpack("<QQ", code):
        kind = KINDS.get(low & 0x1FF)
        if kind:
            kinds[kind] += 1
            if kind in ("LDG", "LDS") and high >> 9 & 7 == OF_16_BYTES:
                kinds[f"{kind}.128"] += 1
    return Kernel(len(code) // INSTRUCTION_BYTES, kinds)


def _sections(elf: bytes) -> list[tuple[str, int, int]]:
    """Name, first byte and size of each section that has content."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    entry_bytes, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * entry_bytes) for i in range(count)]
    first_name = headers[names][4]
    no_bits = 8
    return [(_text(elf, first_name + h[0]), h[4], h[5]) for h in headers if h[1] != no_bits]


def _symbols(table: bytes, names: bytes) -> list[str]:
    return [_text(names, name) for name, *_ in struct.iter_unpack("<IBBHQQ", table)]


def _attributes(info: bytes, bytes_of_each: int) -> list[tuple[int, ...]]:
    """Attribute and its numbers, of those with so many bytes: with 8, a symbol and a value."""
    found: list[tuple[int, ...]] = []
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form == 4:  # `size` bytes follow; in other forms `size` is itself the value
            if size == bytes_of_each:
                found.append((attribute, *struct.unpack_from(f"<{size // 4}I", info, at)))
            at += size
    return found


def _text(table: bytes, at: int) -> str:
    found = re.compile(rb"[^\0]*").match(table, at)
    assert found
    return found[0].decode()
