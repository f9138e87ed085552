"""mann-bench: how does a memory-augmented network scale, what does it cost per step, does it still learn?

Shape letters, used in every docstring of the project: `T` time steps, `B` batch, `N` memory slots (words), `W` word size, `R` heads,
`K` sparse reads per head, `H` controller units, `X` input width, `Y` output width. Models live in `mann_bench.models`, sparse memory
operations in `mann_bench.kernels`; both are usable without the harness.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
