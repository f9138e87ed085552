"""Cubins made beforehand, where a compiler is, for a machine with a GPU: a folder of files named by what they are for and their source.

`MANN_BENCH_CUBINS` names the folder. A cubin of another source, or one that was cut off, is refused: its kernels would not fit these calls.
"""

import os
from pathlib import Path

from mann_bench.kernels.native import build

VARIABLE = "MANN_BENCH_CUBINS"


def file_name(purpose: str, source: str) -> str:
    """Name a carried cubin: what it is for (`sm_90-float32-float32-32`), and the hash of what it is compiled from."""
    return f"{purpose}-{source}.cubin"


def write(folder: Path, purpose: str, source: str, content: bytes) -> Path:
    """Write a cubin with its checksum into a folder to be carried; those of other sources for the same purpose are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(file_name(purpose, "*")):
        old.unlink()
    path = folder / file_name(purpose, source)
    path.write_bytes(build.sealed(content))
    return path


def unpack(content: bytes, made: Path) -> None:
    """Write a cubin that `find` returned, as a compiler would."""
    made.write_bytes(content)


def find(purpose: str, source: str) -> bytes | None:
    """The carried cubin, or None if none was carried for this purpose; BuildError if it cannot be used."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named) / file_name(purpose, source)
    try:
        others = sorted(Path(named).glob(file_name(purpose, "*")))
        if path in others:
            if not build.is_sound(path):
                raise build.BuildError(f"{path}: damaged or cut off; copy it again")
            return path.read_bytes()[: -build.SEAL_BYTES]
        if not Path(named).is_dir():
            raise build.BuildError(f"{VARIABLE}: expected a folder of cubins, got {named!r}; correct it, or unset it to compile here")
    except OSError as error:
        raise build.BuildError(f"{VARIABLE}: {error}; unset it to compile here") from error
    if others:
        raise build.BuildError(
            f"{others[0]}: expected a cubin of this source ({source}), got one of another; make it again with "
            f"`mann-bench build-kernels`, or unset {VARIABLE} to compile here"
        )
    return None
