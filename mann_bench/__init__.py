"""mann-bench: how does a memory-augmented network scale, what does it cost per step, does it still learn?

    import mann_bench as mb

    suite = mb.load_suite("quick")
    results = mb.run_suite(suite, "runs/quick")
    table = mb.load_frame("runs/quick")

Shape letters, used in every docstring of the project: `T` time steps, `B` batch, `N` memory slots (words), `W` word size, `R` read
heads, `V` write heads, `K` sparse reads per head, `H` controller units, `X` input width, `Y` output width. Models live in
`mann_bench.models`, sparse memory operations in `mann_bench.kernels`; both are usable without the harness.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mann_bench import models
    from mann_bench.api import (
        Budget,
        Case,
        Measured,
        MeasurementError,
        NotMeasured,
        Profile,
        Result,
        Suite,
        UsageError,
        Workload,
        load_frame,
        load_results,
        load_suite,
        profile,
        run_suite,
    )

__version__ = "0.2.0"
__all__ = [
    "Budget",
    "Case",
    "Measured",
    "MeasurementError",
    "NotMeasured",
    "Profile",
    "Result",
    "Suite",
    "UsageError",
    "Workload",
    "__version__",
    "load_frame",
    "load_results",
    "load_suite",
    "models",
    "profile",
    "run_suite",
]

if not TYPE_CHECKING:  # a type checker reads the imports above, and so still reports a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used: `import mann_bench` alone takes milliseconds, torch takes seconds."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "models":
            return importlib.import_module("mann_bench.models")
        return getattr(importlib.import_module("mann_bench.api"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
