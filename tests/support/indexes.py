"""Indexes for tests."""

from collections.abc import Mapping
from typing import ClassVar

from mann_bench.kernels.index import Exact


class Copied(Exact):
    """`exact` with 8-bit copies of its rows however few they are; in tests "tests.support.indexes:Copied"."""

    bounded_from: ClassVar[Mapping[str, int]] = {"cpu": 1}


COPIED = f"{__name__}:Copied"
