"""Suites: TOML in, cases out, errors that name the key."""

from pathlib import Path

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "mine"', 'name = "../../etc"'), "mine.toml: name: expected letters, digits"),
        (('name = "mine"', 'name = "a/b"'), "name: expected letters"),
        (('name = "mine"', 'name = ".."'), "name: expected letters"),
        (('name = "mine"', f'name = "{"a" * 300}"'), "name: expected letters"),
        (('name = "mine"', "name = 3"), "expected a name"),
        (("[fixed]\nsteps = 5", "fixed = 5"), r"\[fixed\]: expected a table, got 5"),
        (("[fixed]\nsteps = 5", "fixed = []"), r"\[fixed\]: expected a table"),
        (('[budget]\nmemory = "1G"', "budget = 3"), "mine.toml"),
        (("[[sweep]]", "[sweep]"), r"at least one \[\[sweep\]\]"),
        (("steps = 5", "steps = []"), r"steps: expected a text, a whole number or a list of these, got \[\]"),
        (('models = ["ntm-checkpointed", "sam"]', "models = []"), r"models: expected .* got \[\]"),
        (('models = ["ntm-checkpointed", "sam"]', "models = [3]"), "expected one of"),
        (('models = ["ntm-checkpointed", "sam"]', "models = [[]]"), "models: expected a text"),
        (('slots = ["64", "1k"]', "slots = []"), "slots: expected"),
        (('slots = ["64", "1k"]', "slots = [[64]]"), "slots: expected"),
        (('slots = ["64", "1k"]', f'slots = "{"9" * 400}"'), "expected a size"),
        (('slots = ["64", "1k"]', "slots = 1e300"), "slots: expected"),
        (("steps = 5", "steps = true"), "steps: expected .* got True"),
        (("steps = 5", "steps = 5.5"), "steps: expected .* got 5.5"),
        (("steps = 5", "steps = {a = 1}"), "steps: expected .* got {'a': 1}"),
        (("steps = 5", "steps = 2026-01-01"), "steps: expected"),
        (("steps = 5", f"steps = {10**30}"), "steps: Input should be"),
        (("steps = 5", "seed = 99999999999999999999"), "seed: "),
        (('memory = "1G"', "memory = []"), "memory: .*expected a size"),
        (('memory = "1G"', "case_seconds = inf"), "case_seconds: .*finite"),
        (('memory = "1G"', "target_ci = nan"), "target_ci: "),
        (("[fixed]", "interleave = 3\n[fixed]"), "interleave: expected a list of fields"),
        (("[fixed]", "interleave = [{a = 1}]\n[fixed]"), "interleave: expected a list of fields"),
        (("steps = 5", "steps = " + "[" * 100_000), "nested too deep|not valid TOML"),
    ],
)
def test_values_of_the_wrong_kind_are_named(change, message):
    assert change[0] in TEXT
    with pytest.raises(UsageError, match=message):
        parse_suite(TEXT.replace(*change), "mine.toml")


def test_a_suite_without_a_sweep_is_refused():
    with pytest.raises(UsageError, match=r"at least one \[\[sweep\]\]"):
        parse_suite('name = "mine"\nsweep = []', "mine.toml")


@pytest.mark.parametrize("content", [TEXT.encode("utf-16"), TEXT.replace("mine", "m\xfcller").encode("latin-1")])
def test_a_file_of_another_encoding(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.toml: expected a text in UTF-8"):
        load_suite(str(path))


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TEXT)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(UsageError, match=r"mine\.toml': Permission denied"):
        load_suite(str(tmp_path / "mine.toml"))


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
    with pytest.raises(UsageError, match="--seed: "):
        select(suite, models=[], slots=[], changes={"seed": 10**30})
