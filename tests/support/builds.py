"""Compiles the kernels that tests call, on all cores at once and before them: else all tests would wait for one after the other.

python -m tests.support.builds
"""

import os
from concurrent.futures import ThreadPoolExecutor

from mann_bench.kernels.native import build, extension

KINDS = (  # those that compile for longest come first
    build.flags(dense=True),
    build.flags(),
    build.flags("float64", dense=True),
    build.flags(store="bfloat16"),
    build.flags("float64"),
    build.flags(store="bfloat16", emulate=True),
    build.flags(emulate=True),
    build.flags("float64", emulate=True),
)


def main() -> None:
    """Compile what is not in the cache; tests themselves say what they think of a machine that cannot."""
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        for building in [*(cores.submit(build.build, kind) for kind in KINDS), cores.submit(extension.library)]:
            try:
                building.result()
            except build.BuildError as error:
                print(error)


if __name__ == "__main__":
    main()
