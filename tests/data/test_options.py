"""Options of models: values, texts, sweeps over several models, and what is refused."""

import pickle
from typing import ClassVar, Literal

import pytest
from torch import dtype, nn

from mann_bench.data.axes import axes_of, differing_axes
from mann_bench.data.case import Case
from mann_bench.data.constructors import constructor_of
from mann_bench.data.errors import UsageError
from mann_bench.data.option_axes import parse_table, parse_texts
from mann_bench.data.options import Options, Value
from mann_bench.data.registry import BUILT_INS, find_model
from mann_bench.data.suite import parse_suite, select
from mann_bench.learn.record import LearningCase

SUITE = """
name = "mine"
[fixed]
options = { strength = false }
[[sweep]]
models = ["lstm", "ntm-checkpointed", "sam"]
slots = ["64", "128"]
options = { erase = ["always", "gated"], sam = { write_heads = 1 } }
[[sweep]]
models = ["lstm", "sam"]
slots = ["64"]
"""


def case(**changes):
    return Case(**{"suite": "s", "model": "sam", "slots": 64, **changes})


class TestOptions:
    """The value of the field `options`."""

    VALUES: ClassVar[dict[str, Value]] = {
        **{"erase": "gated", "n": -3, "f": 1e-5, "g": 0.5, "b": True, "t": "true", "u": "1e3", "s": "two, words", "q": 'a"b=\n'}
    }

    def test_text_holds_all_of_them(self):
        options = Options(self.VALUES)
        assert Options.parse(str(options)) == options == self.VALUES
        assert str(Options({"write_heads": 1, "erase": "gated", "strength": False})) == "erase=gated strength=false write_heads=1"
        assert str(Options()) == ""

    def test_order_does_not_count_and_types_do(self):
        assert Options({"a": 1, "b": 2}) == Options({"b": 2, "a": 1})
        assert len({Options({"a": 1}), Options({"a": True}), Options({"a": 1.0}), Options({"a": "1"})}) == 4
        assert pickle.loads(pickle.dumps(Options(self.VALUES))) == Options(self.VALUES)

    @pytest.mark.parametrize("bad", [{"a b": 1}, {"a": [1]}, {"a": None}, {"a": float("nan")}, {"a": 2**63}, {3: 1}, 3, "a", 'a="'])
    def test_refuses(self, bad):
        with pytest.raises(ValueError, match="expected"):
            Options.validate(bad)


class TestCase:
    """A case with options."""

    def test_without_options_the_id_is_what_it_was(self):
        assert case().case_id == "ee547ed5da407921"
        assert case(options={}) == case()
        assert len({case(options=options).case_id for options in ({}, {"a": 1}, {"a": True}, {"a": 2})}) == 4

    def test_label_and_json(self):
        one = case(options={"write_heads": 1, "erase": "gated"}, index="lsh")
        assert one.label == "sam erase=gated write_heads=1 lsh N=64 train"
        assert Case.model_validate_json(one.model_dump_json()) == one
        assert {one: 1}[Case(**one.model_dump())] == 1

    def test_a_stored_training_run_has_its_former_key_and_id(self):
        run = LearningCase(model="sam", task="copy", levels=(1, 2), sequences=10, options=Options({"write_heads": 1}))
        assert run.run_id == "220bf7771a6216ba"  # as before it could be written `options`
        assert '"model_options":{"write_heads":1}' in run.model_dump_json(by_alias=True)
        assert LearningCase.model_validate_json(run.model_dump_json(by_alias=True)) == run
        assert run.title == "sam write_heads=1"

    def test_what_differs_from_a_run_is_said(self):
        before, after = axes_of([case()]), axes_of([case(options={"erase": "gated"})])
        assert differing_axes(before, after) == ["options: there none, here erase=gated"]
        del before["options"]  # a run of an older mann-bench
        assert differing_axes(before, after) == ["options: there none, here erase=gated"]


class TestSweep:
    """Each model takes the options that it has."""

    def test_a_suite(self):
        suite = parse_suite(SUITE, "mine.toml")
        assert [c.label.removesuffix(" train") for c in suite.cases] == [
            *("lstm N=64", "ntm-checkpointed N=64"),
            *("sam erase=always strength=false write_heads=1 N=64", "sam erase=gated strength=false write_heads=1 N=64"),
            *("lstm N=128", "ntm-checkpointed N=128"),
            *("sam erase=always strength=false write_heads=1 N=128", "sam erase=gated strength=false write_heads=1 N=128"),
            "sam strength=false N=64",
        ]
        lacking = ["lstm and ntm have no option 'strength': run without it", "lstm and ntm have no option 'erase': run without it"]
        assert suite.notes == lacking
        assert select(suite, models=["sam"], slots=[], changes={}).notes == []

    def test_the_command_line_goes_before_the_file(self):
        suite = parse_suite(SUITE, "mine.toml")
        selected = select(
            suite, models=["sam", "sdnc"], slots=[64], changes={}, options=parse_texts(["erase=gated", "sdnc.link_entries=2,4"])
        )
        assert [c.title for c in selected.cases] == [
            *("sam erase=gated strength=false write_heads=1", "sam erase=gated strength=false"),
            *("sdnc erase=gated link_entries=2", "sdnc erase=gated link_entries=4"),
        ]

    def test_tables_and_texts_are_parsed_alike(self):
        table = {"erase": ["always", "gated"], "n": 3, "x": [1, True], "mine:M": {"name": "a, b", "rate": 0.5}}
        texts = ["erase=always,gated", "n=3", "x=1", "x=true", 'mine:M.name="a, b"', "mine:M.rate=0.5"]
        assert parse_table("here", table) == parse_texts(texts)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("ease=1", "no model has an option 'ease': lstm has none; ntm has write_heads, .*; did you mean 'erase'?"),
            (
                "sam.ease=1",
                r"^--option: sam has no option 'ease': it has write_heads, erase, strength, storage, snapshot; did you mean 'erase'\?$",
            ),
            ("lstm.erase=gated", "lstm has no option 'erase': it has none"),
            ("dnc.strength=oneplus", "dnc: expected one of the models lstm, ntm, sam, got 'dnc'"),
            ("ntm-checkpointed.shifts=2", "options are of a model and all its variants: write ntm"),
            ("shifts=1.5", "ntm: shifts: expected a whole number, got 1.5$"),
            ("write_heads=true", "ntm: write_heads: expected a whole number, got true; to give it to one model, .* as ntm.write_heads"),
            ("sam.storage=float99", r"storage: expected a type of numbers \(bfloat16\) or none, got float99"),
            ("erase=3", "sam: erase: expected a text, got 3"),
            ("hidden=3", "hidden: expected it as a field of the case, as hidden = ..., got it as an option"),
            ("checkpoint=true", "checkpoint: expected it as a variant, ntm-checkpointed, got it as an option"),
            ("erase", "expected NAME=VALUE or MODEL.NAME=VALUE, as .*, got 'erase'"),
            ("erase=", "erase: expected a value, got none"),
            ("erase=gated,", "erase: expected a value, got none"),
            ('erase="gated', "erase: expected a text that ends with a double quote"),
            ("a b=1", "a b: expected the name of an argument"),
        ],
    )
    def test_what_is_refused(self, text, message):
        suite = parse_suite(SUITE, "mine.toml")
        with pytest.raises(UsageError, match=message):
            select(suite, models=[], slots=[], changes={}, options=parse_texts([text]))

    @pytest.mark.parametrize(
        ("new", "message"),
        [
            ("options = 3", r"mine.toml: \[fixed\]: options: expected a table such as"),
            ("options = { strength = [] }", r"\[fixed\]: options: strength: expected a value or a list of at least one"),
            ("options = { strength = [[true]] }", "strength: expected true, false, a finite number or a text, got "),
            ("options = { sam = { strength = { a = 1 } } }", "options.sam: strength: expected true, false"),
            ("options = { link_entries = 3 }", r"\[fixed\]: no model has an option 'link_entries'"),
        ],
    )
    def test_what_is_refused_in_a_file(self, new, message):
        with pytest.raises(UsageError, match=message):
            parse_suite(SUITE.replace("options = { strength = false }", new), "mine.toml")

    def test_ops_have_none_and_a_model_of_the_users_takes_all(self):
        suite = parse_suite('name = "s"\n[[sweep]]\nmodels = ["op:copy", "mine:M"]\nslots = ["64"]\noptions.depth = [1, 2]', "s.toml")
        assert [c.title for c in suite.cases] == ["op:copy", "mine:M depth=1", "mine:M depth=2"]
        with pytest.raises(UsageError, match="op:copy is no model and has no options, got 'depth'"):
            parse_suite('name = "s"\n[[sweep]]\nmodels = ["op:copy"]\nslots = ["64"]\noptions.depth = 1', "s.toml")


class Mine(nn.Module):
    """A model of a user's.

    Args:
        depth: how many
            layers.
        kind: which.
    """

    def __init__(
        self,
        slots,
        depth: "int" = 2,
        kind: Literal["a", "b"] = "a",
        rate=0.5,
        name: str | None = None,
        number: dtype | None = None,
        any=None,
    ):
        super().__init__()


class Passing(Mine):
    """A model that passes arguments on."""

    def __init__(self, *, gate: bool, **others):
        super().__init__(**others)


class TestConstructor:
    """What is known of arguments without building anything."""

    @pytest.mark.parametrize(
        ("name", "expected", "fits", "not_"),
        [
            ("depth", "a whole number", [3], [3.0, "3", True]),
            ("kind", "a or b", ["b"], ["c", 1]),
            ("rate", "a number", [1, 0.1], [True, "x"]),
            ("name", "a text", ["none", "x"], [1]),
            ("number", "a type of numbers (bfloat16) or none", ["bfloat16", "none"], ["float99", "x", 16]),
            ("any", "any value", ["x", 1, True], []),
            ("gate", "true or false", [True], [1, "true"]),
        ],
    )
    def test_types(self, name, expected, fits, not_):
        option = constructor_of(Passing).arguments[name]
        assert option.expected == expected
        assert [option.problem(value) for value in fits] == [None] * len(fits)
        assert all(str(option.problem(value)).startswith(f"{name}: expected {expected}, got") for value in not_)

    def test_descriptions_and_defaults(self):
        found = constructor_of(Passing).arguments
        assert found["depth"].what == "how many layers."
        assert [found[name].default_text for name in ("gate", "depth", "kind", "name")] == ["", "2", "a", "none"]
        assert not constructor_of(Passing).open
        assert constructor_of(lambda **anything: None).open

    def test_built_ins(self):
        assert [*BUILT_INS["sdnc"].options()] == ["link_entries", "write_heads", "erase", "strength", "storage", "snapshot"]
        assert [*BUILT_INS["ntm"].options()] == ["write_heads", "shifts", "learned_start"]

    def test_a_model_is_built_with_them(self):
        import torch

        model = find_model("sam").build(case(options={"erase": "gated", "storage": "bfloat16", "write_heads": "none"}))
        assert (model.erase, model.storage, model.write_heads) == ("gated", torch.bfloat16, 4)
        assert find_model("ntm").build(case(model="ntm", variant="checkpointed", options={"shifts": 2})).shifts == 2
