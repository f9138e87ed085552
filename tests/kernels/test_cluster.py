"""Clusters of blocks without a GPU: their text on real threads, and what decides whether they run."""

import itertools
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build, cubin, driver
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster
from mann_bench.models import SAM, SDNC
from tests.kernels.test_emulated import assert_as_reference, emulator, every_entry, make

ENTRIES = ("mb_forward_cluster", "mb_backward_cluster")

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module", params=[2, 4])
def threads(request, tmp_path_factory):
    return emulator("thread", tmp_path_factory, cluster=request.param)


@pytest.mark.parametrize("name", ["sam", "sam-one-writer", "sam-lsh", "sdnc"])
def test_no_race(name, threads):
    model = make(name)
    with threads.instead():
        found = every_entry(model)
    assert set(threads.sites) >= {*ENTRIES, "mb_undo", "mb_redo"}
    assert_as_reference(model, found)


def test_every_removed_barrier_is_detected(threads):
    met: set[str] = set()
    caught: set[str] = set()
    for seed, name in itertools.product(range(4), ("sam", "sdnc")):
        if seed > 0 and caught == met:
            break
        with threads.instead():
            every_entry(make(name, seed), steps=7)
        for entry in ENTRIES:
            sites = {site for site in threads.sites[entry] if "cluster.h" in site}
            met |= sites
            caught |= {site for site in sites if site not in caught and not threads.misses(entry, site)}
    assert len(met) == 9  # six of the cluster, three of each block
    assert caught == met
