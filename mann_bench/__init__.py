"""Benchmarks and profiles of memory-augmented neural networks: time, memory and learning as the memory grows.

A program uses what `__all__` lists; everything below the sub-packages `models` and `kernels` may be used too, without the harness.

    from mann_bench import Case, Suite, load_frame, run_suite

    cases = [Case(suite="mine", model="sam", slots=slots) for slots in (256, 1024, 4096)]
    run_suite(Suite(name="mine", cases=cases), "runs/mine")
    print(load_frame("runs/mine")[["model", "slots", "step_ms_median", "bytes_per_step"]])

`import mann_bench` imports neither torch nor pandas: each name is imported when it is first used.

Shape letters, used in every docstring of the project: `T` time steps, `B` batch, `N` memory slots (words), `W` word size, `R` read heads,
`V` write heads, `K` sparse reads per head, `H` controller units, `X` input width, `Y` output width.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mann_bench import models
    from mann_bench.api import load_frame, load_results, profile, run_suite
    from mann_bench.data.case import Case
    from mann_bench.data.errors import UsageError
    from mann_bench.data.result import Measured, NotMeasured
    from mann_bench.data.suite import Budget, Suite, load_suite
    from mann_bench.measure.profile import Profile
    from mann_bench.measure.workload import Workload

__version__ = "0.2.0"
__all__ = [
    "Budget",
    "Case",
    "Measured",
    "NotMeasured",
    "Profile",
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

_MODULES = {  # where each public name is defined
    "Budget": "data.suite",
    "Case": "data.case",
    "Measured": "data.result",
    "NotMeasured": "data.result",
    "Profile": "measure.profile",
    "Suite": "data.suite",
    "UsageError": "data.errors",
    "Workload": "measure.workload",
    "load_frame": "api",
    "load_results": "api",
    "load_suite": "data.suite",
    "profile": "api",
    "run_suite": "api",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and reports a name that is not among them

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name == "models":
            return importlib.import_module("mann_bench.models")
        if name not in _MODULES:
            raise AttributeError(f"module 'mann_bench' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"mann_bench.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List the public names, imported or not."""
        return __all__
