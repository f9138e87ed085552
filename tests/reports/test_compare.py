"""Two runs of the same cases: planted changes of time and memory are found, noise is not a change, other machines are refused."""

import json
import re
import shlex

import numpy as np
import pytest
import typer

from mann_bench.cli.app import app
from mann_bench.data.errors import UsageError
from mann_bench.reports.compare.comparison import compare_results, compare_runs, known_well
from mann_bench.reports.compare.display import memory_text, models_text, summary, table_row, to_json
from mann_bench.reports.compare.limits import parse_limits, violations
from mann_bench.reports.compare.page import headline
from tests.support.results import make_result

RANDOM = np.random.default_rng(0)


def timed(model="sam", factor=1.0, count=40, noise=0.01, **changes):
    samples = list(10 * factor * np.exp(noise * RANDOM.standard_normal(count)))
    result = make_result(model, **changes)
    return result.model_copy(
        update={"time": result.time.model_copy(update={"pass_ms": result.time.pass_ms.model_copy(update={"samples": samples})})}
    )


def verdicts(before, after, threshold=0.05):
    return [case.verdict(threshold) for case in compare_results(before, after)[0]]


def test_verdicts_of_planted_changes():
    models = ["lstm", "ntm", "dam", "sam"]
    before = [timed(model) for model in models]
    after = [timed(model, factor) for model, factor in zip(models, (1.0, 1.2, 1 / 1.2, 1.03), strict=True)]
    assert verdicts(before, after) == ["SAME", "SLOWER", "FASTER", "SAME"]
    assert verdicts(before, after, 0.001)[3] == "SLOWER"
    assert verdicts(before, after, 0.5) == ["SAME"] * 4


def test_too_little_or_too_scattered_is_inconclusive():
    assert verdicts([timed(count=3)], [timed(factor=1.2, count=3)]) == ["INCONCLUSIVE"]
    assert verdicts([timed(noise=0.5)], [timed(noise=0.5)]) == ["INCONCLUSIVE"]


def test_one_fast_process_is_not_a_change():
    lucky = [timed(factor=factor) for factor in (1.0, 0.8, 1.0)]
    assert verdicts([timed() for _ in range(3)], lucky) == ["INCONCLUSIVE"]
    assert verdicts([timed(factor=f) for f in (1, 2, 1.5)], [timed(factor=1.2 * f) for f in (1, 2, 1.5)]) == [
        "SLOWER"
    ]  # pairs share a minute


def test_many_unchanged_cases_raise_no_alarm():
    sizes = range(64, 64 + 60)
    before, after = ([timed(slots=n, noise=0.05, count=30) for n in sizes] for _ in range(2))
    assert {case.verdict(0) for case in compare_results(before, after)[0]} <= {"INCONCLUSIVE", "SAME"}


def apart(results):
    return [result.model_copy(update={"started_at": "2026-01-01T00:10:00+00:00"}) for result in results]


def test_times_of_separate_runs_are_not_judged():
    before, after = [timed("sam"), timed("ntm"), timed("dam")], [timed("sam", 1.3), timed("ntm", 3.0, per_step=1001)]
    assert verdicts(before, after) == ["SLOWER", "SLOWER"]
    after = apart([*after, make_result("dam", status="oom", reason="full")])
    cases, _, _ = compare_results(before, after)
    assert [case.verdict(0.05) for case in cases] == ["NOT IN TURN", "NOT IN TURN", "BROKEN"]
    assert cases[0].ratio == pytest.approx(1.3, rel=0.05)
    assert table_row(cases[1], 0.05)[4:7] == ("-", "-", "NOT IN TURN")
    assert to_json(cases[0], 0.05)["ratio"] == {"value": cases[0].ratio, "ci_low": None, "ci_high": None}
    broken = violations(cases, parse_limits(["slower:5%", "larger:0%"]))
    assert {sentence.split(" N=")[0] for sentence in broken} == {"ntm", "dam"}  # memory, and what no longer runs
    assert not any("x the time" in sentence for sentence in broken)


@pytest.mark.parametrize(("model", "commands"), [("sam", 1), ("my_package.memory:MyMemory", 2)])
def test_separate_runs_name_commands_that_pair_them(call, tmp_path, model, commands):
    runs = write(tmp_path / "a", [timed(model)]), write(tmp_path / "b", apart([timed(model, 1.5)]))
    done = call("compare", *runs, "--fail-on", "slower:5%", "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    assert "1 NOT IN TURN" in done.stdout
    named = re.findall(r"`mann-bench compare ([^`]+)`", done.stderr)
    assert len(named) == commands
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for command in named:
        given = group.commands["compare"].make_context("compare", shlex.split(command)).params
        assert given["suite"] == "quick"
        assert model == "sam" or given["model"] in ([model], ["old.py:Model", "new.py:Model"])
    page = (tmp_path / "page" / "compare.html").read_text()
    assert "1 were not timed in turn: their times are shown, not judged." in page
    assert "No case is known" not in page


def test_two_models_are_compared_if_each_side_has_one():
    before = [timed("my:Old", slots=n) for n in (64, 65)]
    after = [timed("my:New", 1.2, slots=n) for n in (65, 66)]
    cases, only_before, only_after = compare_results(before, after)
    assert [(case.models, case.label, case.verdict(0.05)) for case in cases] == [(("my:Old", "my:New"), "my:New N=65 train", "SLOWER")]
    assert (only_before, only_after) == (["my:Old N=64 train"], ["my:New N=66 train"])
    assert (cases[0].case.model, to_json(cases[0], 0.05)["models"]) == ("my:New", ["my:Old", "my:New"])
    assert models_text(cases) == "A is my:Old, B is my:New."
    assert headline(cases, 0.05).startswith("A is my:Old, B is my:New. B is slower in 1 of 1 cases")
    with pytest.raises(UsageError, match="at least one case on both sides"):
        compare_results(before, [*after, timed("dam")])


def of(comparison, result, **changes):
    return result.model_copy(update={"comparison": comparison, **changes})


def in_turn(before, after):
    return [case.change is not None for case in compare_results(before, after)[0]]


def test_separate_runs_that_start_in_the_same_second_were_not_timed_in_turn():
    assert in_turn([of("x", timed())], [of("y", timed())]) == [False]
    assert in_turn([of("x", timed())], [timed()]) == [False]
    assert in_turn([of("x", timed())], [of("x", timed(), started_at="2026-01-01T00:10:00+00:00")]) == [True]
    assert in_turn([timed()], [timed()]) == [True]  # results of older versions have no id


def test_processes_are_paired_by_their_comparison():
    """A line that could not be read leaves one side without its first process."""
    before = [of(name, timed(factor=factor)) for name, factor in (("x", 1), ("y", 2), ("z", 1.5))]
    after = [of(name, timed(factor=1.2 * factor)) for name, factor in (("y", 2), ("z", 1.5))]
    assert verdicts(before, after) == ["SLOWER"]
    assert in_turn(before, after) == [True]
    assert known_well(before[1:], after, 0.05)


def test_memory_to_the_byte():
    case = compare_results([make_result(per_step=1000)], [make_result(per_step=1001)])[0][0]
    assert case.larger() == ["peak_bytes", "tape_bytes", "bytes_per_step"]
    assert case.larger(0.01) == []
    assert "tape_bytes 10,000 -> 10,010 (+0.10%)" in memory_text(case)
    assert memory_text(compare_results([make_result()], [make_result()])[0][0]) == "same"


def test_other_changes_are_reported():
    old = make_result(index="lsh").model_copy(update={"recall": 0.9})
    new = old.model_copy(update={"recall": 0.8, "backend": old.backend.model_copy(update={"kernels": "native"})})
    assert compare_results([old], [new])[0][0].warnings == [
        "sam lsh N=64 train: kernels torch, index lsh ran in A, native, lsh in B",
        "sam lsh N=64 train: recall 0.900 in A, 0.800 in B",
    ]
    assert compare_results([old], [old])[0][0].warnings == []


def test_limits():
    compared = compare_results([timed("sam"), timed("ntm", per_step=100)], [timed("sam", 1.3), timed("ntm", per_step=120)])[0]
    assert violations(compared, []) == []
    sentences = violations(compared, parse_limits(["slower:5%", "larger:10%"]))
    assert any(sentence.startswith("sam N=64 train: 1.") and "x the time [" in sentence for sentence in sentences)
    assert any("ntm N=64 train: tape_bytes 1,000 -> 1,200 (+20.00%)" in sentence for sentence in sentences)
    assert violations(compared, parse_limits(["slower:50%"])) == []
    for bad in ("slower", "slower:5", "warmer:5%", "slower:x%"):
        with pytest.raises(UsageError, match="--fail-on: expected"):
            parse_limits([bad])


def test_a_case_that_no_longer_runs_fails_any_limit():
    compared, _, _ = compare_results([make_result()], [make_result(status="oom", reason="full")])
    assert compared[0].verdict(0.05) == "BROKEN"
    assert violations(compared, parse_limits(["slower:5%"])) == ["sam N=64 train: ran before, now oom: full"]
    assert "oom" in table_row(compared[0], 0.05)
    assert compare_results([make_result(status="oom")], [make_result()])[0][0].verdict(0.05) == "FIXED"
    assert compare_results([make_result(status="oom")], [make_result(status="oom")])[0][0].verdict(0.05) == "NOT MEASURED"


def facts(**environment):
    return {"environment": {"cpu": "abacus", "torch": "2.13.0", "gpus": [], "git": {"commit": "abc", "dirty": False}, **environment}}


def write(folder, results, resumed=(), **environment):
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    (folder / "run.json").write_text(json.dumps({**facts(**environment), "resumed": list(resumed)}))
    return folder


def test_other_machines_are_refused_and_other_software_warned_of(tmp_path):
    one = write(tmp_path / "one", [make_result()])
    other = write(tmp_path / "other", [make_result()], cpu="slide rule")
    with pytest.raises(UsageError, match=r"one machine, got cpu: abacus and slide rule; add --anyway"):
        compare_runs(one, other)
    assert compare_runs(one, other, anyway=True).warnings == ["cpu: abacus and slide rule"]
    newer = write(tmp_path / "newer", [make_result()], torch="2.14.0", git={"commit": "def", "dirty": True})
    assert compare_runs(one, newer).warnings == ["torch: 2.13.0 and 2.14.0", "B had uncommitted changes"]
    gpu = write(tmp_path / "gpu", [make_result()], gpus=[{"name": "H100", "memory_bytes": 1}])
    with pytest.raises(UsageError, match="gpus: none and H100"):
        compare_runs(one, gpu)


def test_each_setting_that_differs_is_named(tmp_path):
    packages, variables = {"numpy": "2.4", "mann-bench": "0.2"}, {"OMP_PROC_BIND": "true"}
    one = write(tmp_path / "one", [make_result()], packages=packages, variables=variables, allocator_library="libc")
    changed = {"packages": {**packages, "numpy": "2.5", "mann-bench": "0.3"}, "variables": {}, "allocator_library": "libjemalloc.so.2"}
    other = write(tmp_path / "other", [make_result()], **changed)
    assert compare_runs(one, other).warnings == [
        "allocator_library: libc and libjemalloc.so.2",
        "variables OMP_PROC_BIND: true and none",
        "packages numpy: 2.4 and 2.5",
    ]
    older = write(tmp_path / "older", [make_result()])  # recorded neither
    assert compare_runs(older, one).warnings == []
    refused = write(tmp_path / "refused", [make_result()], git={"error": "fatal: detected dubious ownership"})
    assert compare_runs(older, refused).warnings == ["the commit of B is not known: fatal: detected dubious ownership"]


def test_cases_of_a_run_resumed_on_another_machine_are_judged_by_their_own_machine(tmp_path):
    here, there = make_result(), make_result("ntm")
    moved = [here, there.model_copy(update={"conditions": 1})]
    both = write(tmp_path / "both", moved, resumed=[facts(cpu="slide rule")])
    assert compare_runs(both, write(tmp_path / "one", [here])).warnings == ["only in A: ntm N=64 train"]
    with pytest.raises(UsageError, match=r"got cpu: slide rule and abacus; add --anyway"):
        compare_runs(both, write(tmp_path / "other", [here, there]))
    assert compare_runs(both, both).warnings == []
    lost = write(tmp_path / "lost", [result.model_copy(update={"conditions": 7}) for result in moved])
    assert compare_runs(both, lost).warnings == ["run.json without an environment: both sides may have run on different machines"]


def test_cases_of_one_side_only(tmp_path):
    one = write(tmp_path / "one", [make_result(), make_result("ntm")])
    other = write(tmp_path / "other", [make_result(suite="renamed"), make_result("dam")])
    comparison = compare_runs(one, other)
    assert [c.case.model for c in comparison.cases] == ["sam"]
    assert comparison.warnings == ["only in A: ntm N=64 train", "only in B: dam N=64 train"]
    assert "1 cases: " in summary(comparison.cases, 0.05)
    assert json.loads(json.dumps(to_json(comparison.cases[0], 0.05)))["ratio"]["value"] == 1.0
    with pytest.raises(UsageError, match="at least one case on both sides"):
        compare_runs(one, write(tmp_path / "third", [make_result("lstm")]))


def test_processes_are_added_until_the_ratio_is_known_to_half_the_threshold():
    assert known_well([timed(noise=0.01)], [timed(noise=0.01)], 0.05)
    assert not known_well([timed(noise=0.3)], [timed(noise=0.3)], 0.05)
    assert known_well([timed(noise=0.3)], [timed(noise=0.3)], 2.0)
    assert known_well([make_result(status="oom", reason="full")], [timed(noise=0.3)], 0.05)  # another process would fail as well


def test_what_ran_on_two_hosts_was_not_timed_in_turn():
    here, there = (timed().model_copy(update={"host": host}) for host in ("node1", "node2"))
    assert in_turn([here], [here]) == [True]  # an older pair, told by when it started
    assert in_turn([here], [there]) == [False]
