"""Real data for tests: the environment variable MANN_BENCH_DATA names a folder with Omniglot and bAbI as distributed."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("MANN_BENCH_DATA", ""))
needs_real_data = pytest.mark.skipif("MANN_BENCH_DATA" not in os.environ, reason="set MANN_BENCH_DATA to a folder with Omniglot and bAbI")
