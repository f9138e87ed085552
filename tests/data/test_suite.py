"""Suites: TOML in, cases out, errors that name the key."""

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.data.suite import load_suite, parse_suite, select, suite_names

TEXT = """
name = "mine"
[fixed]
steps = 5
[[sweep]]
models = ["ntm-checkpointed", "sam"]
slots = ["64", "1k"]
mode = ["train", "infer"]
[budget]
memory = "1G"
"""


def test_product_of_axes_with_slots_outermost():
    suite = parse_suite(TEXT, "mine.toml")
    assert [(c.slots, c.model, c.variant, c.mode) for c in suite.cases][:5] == [
        (64, "ntm", "checkpointed", "train"),
        (64, "ntm", "checkpointed", "infer"),
        (64, "sam", "plain", "train"),
        (64, "sam", "plain", "infer"),
        (1024, "ntm", "checkpointed", "train"),
    ]
    assert len(suite.cases) == 8
    assert {c.steps for c in suite.cases} == {5}
    assert suite.budget.memory == 2**30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((TEXT, "name = "), "not valid TOML"),
        (('name = "mine"', ""), "expected a name"),
        (("[budget]", "[bugdet]"), "unknown key 'bugdet'"),
        (("steps", "stpes"), "unknown key 'stpes'.*did you mean 'steps'"),
        (('"sam"', '"sma"'), "expected one of .*did you mean 'sam'"),
        (('"64"', '"64q"'), "expected a size"),
        (("steps = 5", "steps = 0"), "mine.toml: steps: .* got 0"),
        (('memory = "1G"', "rounds = 0"), "mine.toml: rounds"),
        (('slots = ["64", "1k"]', ""), "needs models and slots"),
    ],
)
def test_errors_name_the_place(change, message):
    with pytest.raises(UsageError, match=message):
        parse_suite(TEXT.replace(*change), "mine.toml")


def test_shipped_suites_load():
    assert {"quick", "scaling"} <= set(suite_names())
    for name in suite_names():
        assert load_suite(name).cases
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(UsageError, match="an existing file"):
        load_suite("nowhere.toml")


def test_select():
    suite = parse_suite(TEXT, "mine.toml")
    assert {c.model for c in select(suite, models=["sam"], slots=[], changes={}).cases} == {"sam"}
    chosen = select(suite, models=["sam", "lstm"], slots=[32], changes={"mode": "train", "seed": 7})
    assert [(c.model, c.slots, c.mode, c.seed) for c in chosen.cases] == [("sam", 32, "train", 7), ("lstm", 32, "train", 7)]
    with pytest.raises(UsageError):
        select(suite, models=["nope"], slots=[], changes={})
