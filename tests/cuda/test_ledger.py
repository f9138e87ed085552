"""The ledger on the GPU, against the caching allocator's peak."""

import pytest

from tests.support.ledgers import LEDGER_MODELS, check_ledger


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize(("model", "slots"), LEDGER_MODELS)
def test_ledger_residual_of_every_model_is_under_3_percent(model, slots, mode, gpu):
    check_ledger(model, slots, mode, str(gpu), 0.03)
