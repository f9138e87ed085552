"""The short form of `configurations.py`, and that it can fail."""

import pytest
import torch

from mann_bench.kernels.native import build
from tests.endurance import configurations
from tests.endurance.draws import draw

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.mark.slow  # builds of number types that no other test needs
def test_a_few_configurations():
    assert configurations.run(range(4))["faults"] == []


@pytest.mark.slow
def test_more_configurations():
    assert configurations.run(range(100, 160))["faults"] == []


@pytest.mark.slow
def test_a_few_configurations_under_sanitizers(tmp_path):
    assert configurations.run(range(4), configurations.Sanitized(tmp_path))["faults"] == []


def plain():
    """A configuration in double precision without hostile numbers."""
    return next(c for c in map(draw, range(1000)) if c.hostile == "none" and c.storage is None and c.dtype == torch.float64)


def test_a_wrong_number_is_a_difference():
    configuration = plain()
    native, reference = (configurations.outcome(configuration, kernels) for kernels in ("native", "torch"))
    assert configurations.judge(configuration, native, reference)[0] == "alike"
    largest = max(map(configurations.magnitude, native.gradients.values()))
    native.gradients["gradient of x 0"][0, 0, 0] += 1e-3 * largest
    verdict, why = configurations.judge(configuration, native, reference)
    assert verdict == "different"
    assert [text.partition(":")[0] for text in why] == ["gradient of x 0"]


def test_a_bit_that_is_not_restored_is_named():
    tensor = torch.zeros(3)
    changed = tensor.clone()
    changed[1] = -0.0
    assert configurations.differences("rollback", {"rows": tensor}, {"rows": changed}) == ["rollback: rows"]


def test_a_seed_draws_the_same():
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
