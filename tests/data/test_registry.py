"""Finding models: built in, by entry point, in a user's file."""

import subprocess
import sys

import pytest

from mann_bench.cli import listings
from mann_bench.data import registry
from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.models import NTM, SAM


class FakePoint:
    """An entry point of an installed package."""

    name, value = "outside", "mann_bench.models:LSTM"


def test_built_in_with_variant():
    case = Case(suite="s", model="ntm", variant="checkpointed", slots=64)
    model = registry.find_model("ntm").build(case)
    assert isinstance(model, NTM)
    assert model.checkpoint
    assert isinstance(registry.find_model("sam").build(Case(suite="s", model="sam", slots=64, index="live")), SAM)


def test_split_variant():
    assert registry.split_variant("ntm-compiled") == ("ntm", "compiled")
    assert registry.split_variant("dnc-native-checkpointed") == ("dnc", "native-checkpointed")
    assert registry.split_variant("sam") == ("sam", "plain")
    assert registry.split_variant("my-package.models:make") == ("my-package.models:make", "plain")
    with pytest.raises(UsageError, match="did you mean 'compiled'"):
        registry.split_variant("ntm-compile")


def test_a_variant_may_say_which_kernels_run():
    case = Case(suite="s", model="ntm", variant="native-checkpointed", slots=64)
    model = registry.find_model("ntm").build(case)
    assert (model.checkpoint, model.kernels) == (True, "native")
    with pytest.raises(ValueError, match="kernels: expected auto or native with ntm-native-checkpointed, got 'torch'"):
        registry.find_model("ntm").build(case.model_copy(update={"kernels": "torch"}))


def test_entry_point(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [FakePoint])
    assert registry.find_model("outside").target == "mann_bench.models:LSTM"
    assert registry.find_model("outside").build(Case(suite="s", model="outside", slots=4)).hidden == 100
    assert "outside" in [row["model"] for row in listings.models()]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sma", "did you mean 'sam'"),
        ("no.such.module:f", "importable, got ModuleNotFoundError"),
        ("mann_bench.data.units:nothing", "importable, got AttributeError"),
    ],
)
def test_unknown(name, message):
    with pytest.raises(UsageError, match=message):
        registry.find_model(name).load()


def test_not_callable():
    with pytest.raises(UsageError, match="to be a class or function, got str"):
        registry.find_model("mann_bench:__version__").load()


def test_describe_shows_options_passed_on_to_a_base():
    sdnc = next(row for row in listings.models() if row["model"] == "sdnc")
    options = str(sdnc["options"])
    assert "link_entries = 8" in options
    assert "erase = always" in options
    assert "write_heads = 1" in options


def test_describe_names_source_cost_and_size():
    sam = next(row for row in listings.models() if row["model"] == "sam")
    assert "Rae" in str(sam["source"])
    assert sam["space per step"] == "O(1)"
    assert sam["parameters"] == "124,900"
    assert "erase" in str(sam["options"])


def test_the_command_line_starts_without_torch():
    program = "import sys, mann_bench.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
