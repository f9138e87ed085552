"""Cases: frozen, validated, with an id that is the same everywhere."""

import pytest
from pydantic import ValidationError

from mann_bench.data.case import Case


def test_id_is_stable_and_tells_cases_apart():
    case = Case(suite="s", model="sam", slots=64)
    assert case.case_id == Case(slots=64, model="sam", suite="s").case_id
    assert case.case_id == "ee547ed5da407921"  # changing the id of old results would orphan them
    assert case.case_id != case.model_copy(update={"seed": 1}).case_id


@pytest.mark.parametrize(
    "bad", [{"slots": 0}, {"mode": "dream"}, {"fill": "half"}, {"input_size": 2}, {"colour": "red"}, {"dtype": "int8"}]
)
def test_refuses(bad):
    with pytest.raises(ValidationError):
        Case(**{"suite": "s", "model": "sam", "slots": 64, **bad})


def test_is_frozen():
    with pytest.raises(ValidationError):
        Case(suite="s", model="sam", slots=64).slots = 3  # type: ignore[misc]
