"""`models.build`: what fits a model is kept, what does not is named."""

import warnings

import pytest
import torch

from mann_bench.data.registry import BUILT_INS, import_target
from mann_bench.models import SDNC, build
from mann_bench.models.build import KINDS

SIZES = {"input_size": 5, "output_size": 3}


def test_every_built_in_model_has_its_name():
    assert {name: import_target(name, entry.target) for name, entry in BUILT_INS.items()} == KINDS


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("lstm", "slots and no heads and no reads"), ("ntm", "reads"), ("dam", "reads"), ("dnc", "reads"), ("sam", None), ("sdnc", None)],
)
def test_what_fits_is_kept_and_the_rest_is_named(name, left_out):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = build(name, **SIZES, slots=16, heads=2, reads=3)
    assert [str(warning.message) for warning in caught] == ([f"{name} has no {left_out}: left out"] if left_out else [])
    assert all(warning.filename == __file__ for warning in caught)
    assert type(model) is KINDS[name]
    kept = {"slots": 16, "heads": 2, "reads": 3}
    assert {option: getattr(model, option) for option in kept if hasattr(model, option)} == {
        option: value for option, value in kept.items() if option not in (left_out or "")
    }
    assert model(torch.zeros(4, 2, 5))[0].shape == (4, 2, 3)


def test_options_that_a_model_passes_on_to_its_base():
    model = build("sdnc", **SIZES, slots=16, link_entries=3, erase="gated")
    assert isinstance(model, SDNC)
    assert (model.link_entries, model.erase) == (3, "gated")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("san", {}, r"name: expected one of lstm, .*, got 'san'; did you mean 'sam'\?"),
        ("sam", {**SIZES, "slotz": 16}, r"slotz: no model has such an option; sam has .*slots.*; did you mean 'slots'\?"),
        ("sam", {"input_size": 5}, r"sam: expected output_size=\.\.\. and slots=\.\.\., which sam has no default for"),
        ("sam", {**SIZES, "slots": 3}, "slots: expected a whole number >= 8"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)
