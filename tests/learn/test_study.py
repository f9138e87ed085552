"""The file of a study: what is refused, which runs it plans, and how a point of the grid is chosen."""

import math
import re
from pathlib import Path

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.data.options import Options
from mann_bench.data.store import load_records
from mann_bench.data.suite import Budget
from mann_bench.learn.configurations import plan_study
from mann_bench.learn.plan import prediction_case
from mann_bench.learn.record import LEARNING, LearningCase
from mann_bench.learn.selection import Candidate, Configuration, choose
from mann_bench.learn.study import load_study, parse_study, study_names
from mann_bench.measure.predict import predict
from mann_bench.suites.tasks import TASKS, find_task
from tests.support.learning import make_run

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDY = """
name = "mine"
models = ["sam", "lstm"]
[fixed]
hidden = 8
[[task]]
task = "copy"
levels = [1, 2]
sequences = "2k"
[grid]
learning_rate = [1e-3, 3e-3]
[selection]
seeds = [1000]
by = "goal"
[report]
seeds = "0-2"
"""
MACHINE = {"device": "cpu", "threads": 1, "memory_bytes": 2**30}


def plan(text, machine=MACHINE):
    return plan_study(parse_study(text, "mine.toml"), "mine.toml", None, machine)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "name = 3", "name: expected letters, digits"),
        ('name = "mine"', 'name = "mine"\nmodles = []', "unknown key 'modles'; expected name, description"),
        ('name = "mine"', 'name = "mine"\nequal_memory = "sam"', "equal_memory: Input should be a valid boolean, got 'sam'"),
        ('models = ["sam", "lstm"]', 'models = ["dam"]\nequal_memory = true', "mine.toml: equal_memory: expected sam among the models"),
        ('models = ["sam", "lstm"]', 'models = ["sma"]', "did you mean 'sam'"),
        ('models = ["sam", "lstm"]', "", "models: expected at least one"),
        ('models = ["sam", "lstm"]', 'models = ["sam", "sam"]', "expected each once"),
        ("hidden = 8", "hiden = 8", "[fixed]: unknown key 'hiden'"),
        ("hidden = 8", "hidden = 0", "[fixed]: hidden: Input should be greater than or equal to 1, got 0"),
        ("hidden = 8", "hidden = true", "hidden: expected a number"),
        ("hidden = 8", "threads = 2", "threads: expected it as an option of the command"),
        ("hidden = 8", "learning_rate = 1e-3", "learning_rate: expected one place, got it in a grid and as a fixed value"),
        ('task = "copy"', 'task = "coppy"', "did you mean 'copy'"),
        ('task = "copy"', "", "task: Field required"),
        ("levels = [1, 2]", "levels = [2, 1]", "lowest <= highest, got 2 to 1"),
        ("levels = [1, 2]", "levels = [0, 2]", "[[task]]: levels: 0: Input should be greater than or equal to 1, got 0"),
        ('sequences = "2k"', 'sequences = "many"', "sequences: expected a size such as"),
        ('sequences = "2k"', "", "expected a limit of sequences or of seconds"),
        ('sequences = "2k"', 'sequences = 9\nkernels = "fast"', "kernels: expected one of"),
        ("[[task]]", "[task]", "[[task]]: expected tables"),
        ("[grid]", "[grid]\nsequences = [1, 2]", "sequences: expected it equal in all runs of a task"),
        ("learning_rate = [1e-3, 3e-3]", "learning_rate = 1e-3", "expected a list of at least one value, got 0.001"),
        ("learning_rate = [1e-3, 3e-3]", 'optimizer = ["adam", "sgd"]', "optimizer: Input should be 'rmsprop' or 'adam', got 'sgd'"),
        ("learning_rate = [1e-3, 3e-3]", "learning_rate = [1e-3, 1e-3]", "expected runs of its own"),
        ("seeds = [1000]", "seeds = [2]", "seeds: expected each once, in [selection] or in [report], got 2 twice"),
        ("seeds = [1000]", 'seeds = "all"', "selection.seeds: expected a list of whole numbers"),
        ('[selection]\nseeds = [1000]\nby = "goal"\n', "", "[selection]: expected seeds that choose from the grid"),
        ('by = "goal"', 'by = "test"', "selection.by: Input should be 'validation' or 'goal', got 'test'"),
        ('seeds = "0-2"', "", "report.seeds: Field required"),
        ('seeds = "0-2"', 'seeds = "0-2"\n[[arm]]\nname = "a"\n[[arm]]\nname = "a"', "expected a name of its own"),
        ('seeds = "0-2"', 'seeds = "0-2"\n[[arm]]\nname = "a"\n[[arm]]\nname = "b"', "expected runs of its own"),
        ('seeds = "0-2"', 'seeds = "0-2"\n[[arm]]\nname = "a"\ngoal = 0.1', "goal: expected it equal in all runs of a task"),
        (
            'seeds = "0-2"',
            'seeds = "0-2"\n[[arm]]\nmodels = ["lstm"]\noptions = { erase = "gated" }',
            "[[arm]]: lstm has no option 'erase': it has none",
        ),
        (
            'seeds = "0-2"',
            'seeds = "0-2"\n[[arm]]\nmodels = ["sam"]\noptions = { erase = "no" }',
            "erase: expected one of always, gated",
        ),
        ('seeds = "0-2"', 'seeds = "0-2"\n[[arm]]\nmodels = ["sam"]\noptions = { ease = 1 }', "did you mean 'erase'"),
    ],
)
def test_what_is_refused(old, new, message):
    assert STUDY.count(old) == 1
    with pytest.raises(UsageError) as error:
        plan(STUDY.replace(old, new))
    assert message in str(error.value)
    assert str(error.value).startswith(("mine", "task 'coppy'", "task: expected", "model: expected"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.toml"], "study: expected an existing file"),
        (
            ["figure-2"],
            "a study (ablation-index, ablations, curriculum, curriculum-hashed, efficiency, efficiency-copy, "
            "efficiency-copy-rmsprop, equal-bytes, figure2, figure4, table1, toy) "
            "or a FILE.toml, got 'figure-2'; did you mean 'figure2'",
        ),
        (["toy", "--heads", "3"], "--heads: expected it in the study's file"),
        (["toy", "--seeds", "3"], "--seeds: expected it in the study's file"),
        (["toy", "--data", "somewhere"], "expected no data"),
        (["toy", "--resume"], "expected --out FOLDER"),
        (["broken.toml"], "not valid TOML"),
    ],
)
def test_the_command_exits_with_2(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("name =")
    done = call("learn", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken.toml"]


def test_a_study_becomes_runs():
    planned = plan(STUDY)
    assert [(c.task, c.name, len(c.candidates)) for c in planned.record.configurations] == [("copy", "sam", 2), ("copy", "lstm", 2)]
    sam = planned.record.configurations[0]
    assert [candidate.values for candidate in sam.candidates] == [{"learning_rate": 1e-3}, {"learning_rate": 3e-3}]
    for candidate in sam.candidates:
        chosen, reported = ([planned.cases[run_id] for run_id in ids] for ids in (candidate.selection, candidate.reported))
        assert ([case.seed for case in chosen], [case.seed for case in reported]) == ([1000], [0, 1, 2])
        assert {case.learning_rate for case in (*chosen, *reported)} == {candidate.values["learning_rate"]}
        assert {(case.hidden, case.levels, case.sequences) for case in chosen} == {(8, (1, 2), 2048)}
        assert {(case.index, case.stop_at_goal) for case in (*chosen, *reported)} == {("live", True)}
    assert all(run_id == case.run_id for run_id, case in planned.cases.items())
    assert len(planned.cases) == 2 * 2 * 4
    assert planned.study.run_counts() == (4, 6)


def test_selection_by_validation_trains_to_the_limit():
    planned = plan(STUDY.replace('by = "goal"', 'by = "validation"'))
    candidate = planned.record.configurations[0].candidates[0]
    assert not planned.cases[candidate.selection[0]].stop_at_goal
    assert planned.cases[candidate.reported[0]].stop_at_goal


def test_arms_have_settings_models_and_grids_of_their_own():
    arms = """
    [[arm]]
    name = "adam"
    [[arm]]
    name = "one writer"
    models = ["sam"]
    heads = 2
    options = { write_heads = 1 }
    grid = {}
    [[arm]]
    name = "rmsprop"
    models = ["sam"]
    optimizer = "rmsprop"
    grid = { learning_rate = [1e-4, 3e-4, 1e-3] }
    """
    planned = plan(STUDY + arms)
    assert [(c.name, len(c.candidates)) for c in planned.record.configurations] == [
        *(("sam adam", 2), ("lstm adam", 2)),
        *(("sam one writer", 1), ("sam rmsprop", 3)),
    ]
    one = planned.record.configurations[2].candidates[0]
    assert one.selection == ()  # nothing to choose
    case = planned.cases[one.reported[0]]
    assert (case.options, case.heads, case.learning_rate) == ({"write_heads": 1}, 2, 1e-3)
    assert planned.study.run_counts() == (2 * 2 + 3, 3 * (2 + 1 + 1))


def test_options_go_to_the_models_that_have_them():
    text = STUDY.replace(
        "[grid]", 'options = { strength = false }\n[grid]\noptions.erase = ["always", "gated"]\noptions.sam.write_heads = [1]'
    )
    planned = plan(text)
    sam, lstm = planned.record.configurations
    assert [candidate.values.get("options") for candidate in lstm.candidates] == [None, None]
    assert len(sam.candidates) == 2 * len(lstm.candidates) == 4
    assert sam.candidates[1].values == {"options": {"erase": "always", "write_heads": 1}, "learning_rate": 3e-3}
    assert sam.candidates[1].text == "learning_rate 0.003, erase=always write_heads=1"
    cases = [planned.cases[candidate.reported[0]] for candidate in (*sam.candidates, *lstm.candidates)]
    assert [str(case.options) for case in cases[::3]] == [
        "erase=always strength=false write_heads=1",
        "erase=gated strength=false write_heads=1",
    ]
    assert str(cases[-1].options) == ""
    assert planned.warnings == (
        "lstm has no option 'strength': run without it",
        "lstm has no option 'erase': run without it",
    )
    assert planned.study.run_counts() == (6, 6)
    assert plan(text.replace("options", "model_options")).record == planned.record  # as they were called


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("options = { erase = ['always', 'gated'] }", "[fixed]: options: erase: expected one value, got a list"),
        ("options = { ease = 1 }", "[fixed]: no model has an option 'ease'"),
        ("options = { erase = 'gated' }", "options.erase: expected one place, got it in a grid and as a fixed value"),
        ("options = { sdnc = { strength = true } }", "[fixed]: sdnc: expected one of the models sam, lstm, got 'sdnc'"),
        ("options.strength = true\nmodel_options.strength = true", "expected options once, got them also by their former name"),
    ],
)
def test_options_that_are_refused(new, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        plan(STUDY.replace("hidden = 8", new).replace("[grid]", "[grid]\noptions.erase = ['always', 'gated']"))


def test_new_fields_at_their_defaults_are_no_part_of_an_id():
    stored = load_records(RESULTS / "curriculum-1M-amd-epyc-2-threads", LEARNING)
    assert [record.case.case_id for record in stored] == [record.case_id for record in stored]
    case = LearningCase(task="copy", model="sam", levels=(1, 2), sequences=10)
    others = [
        case.model_copy(update=change) for change in ({"fill": "full"}, {"test_index": "lsh"}, {"options": Options({"write_heads": 1})})
    ]
    assert len({other.run_id for other in (case, *others)}) == 4


def test_shipped_studies_can_be_planned():
    measured = {"efficiency", "efficiency-copy", "efficiency-copy-rmsprop", "ablations", "equal-bytes", "curriculum", "curriculum-hashed"}
    assert {"toy", "figure2", "figure4", "table1", "ablation-index", *measured} == set(study_names())
    assert not set(study_names()) & set(TASKS), "`learn NAME` means one of the two"
    for name in study_names():
        study = load_study(name)
        assert study.name == name
        if name not in ("figure4", "table1"):  # which need data
            planned = plan_study(study, name, None, MACHINE)
            lacking = "sam and sdnc and lstm have no option 'controller': run without it"
            assert planned.warnings == ((lacking,) if name == "equal-bytes" else ())


def candidates(*outcomes, limit=1000):
    """A configuration, and the results of its selection runs: for each candidate (sequences to the goal or None, validation error)."""
    results, planned = {}, []
    for number, seeds in enumerate(outcomes):
        ids = []
        for seed, (reached, error) in enumerate(seeds):
            run = make_run("sam", 1000 + seed, learning_rate=(number + 1) / 1000, sequences=limit, validation=error)
            run = run.model_copy(update={"sequences_to_goal": reached, "status": "ok" if reached else "budget"})
            results[run.run_id] = run
            ids.append(run.run_id)
        planned.append(Candidate(values={"learning_rate": (number + 1) / 1000}, selection=tuple(ids), reported=()))
    return Configuration(task="recall", arm="", model="sam", settings={}, candidates=tuple(planned)), results


def order(by, *outcomes):
    choice = choose(*(lambda configuration, results: (configuration, by, results))(*candidates(*outcomes)))
    assert choice is not None
    return [round(1000 * ranked.candidate.values["learning_rate"]) for ranked in choice.ranking]


def test_by_goal_the_most_seeds_then_the_fewest_sequences():
    slow, fast = [(900, 0.1), (800, 0.1)], [(300, 0.9), (400, 0.9)]
    half, never, never_better = [(100, 0.0), (None, 5.0)], [(None, 5.0), (None, 5.0)], [(None, 3.0), (None, 3.0)]
    assert order("goal", slow, fast, half, never, never_better) == [2, 1, 3, 5, 4]


def test_by_validation_the_smallest_median_error():
    assert order("validation", [(300, 2.0)], [(None, 1.0)], [(900, 1.5)]) == [2, 3, 1]
    assert order("validation", [(900, 1.0)], [(300, 1.0)]) == [2, 1]


@pytest.mark.parametrize("by", ["goal", "validation"])
def test_of_equals_the_first_in_the_grid(by):
    assert order(by, *[[(300, 1.0)]] * 3) == [1, 2, 3]
    assert order(by, *[[(None, None)]] * 3) == [1, 2, 3]


def test_a_candidate_that_diverged_comes_last_and_a_missing_run_chooses_nothing():
    configuration, results = candidates([(300, 0.1), (300, 0.1)], [(None, 5.0), (None, 5.0)])
    first, *rest = results
    diverged = results | {first: results[first].model_copy(update={"status": "diverged"})}
    choice = choose(configuration, "goal", diverged)
    assert choice is not None
    assert [ranked.candidate.values["learning_rate"] for ranked in choice.ranking] == [0.002, 0.001]
    assert not choice.failed
    assert choose(configuration, "goal", {run_id: results[run_id] for run_id in rest}) is None
    failed = choose(configuration, "goal", {run_id: run.model_copy(update={"status": "error"}) for run_id, run in results.items()})
    assert failed is not None
    assert failed.failed


def size_of(case):
    """The bytes that are predicted for a case."""
    return predict(case, Budget()).total_bytes


def test_memories_are_made_equal_in_each_task_and_arm():
    text = STUDY.replace('models = ["sam", "lstm"]', 'models = ["sam", "dam", "sdm", "lstm"]\nequal_memory = true')
    text += '[[arm]]\nname = "few"\nslots = 64\n[[arm]]\nname = "many"\nslots = 4096\n'
    study = plan(text)
    slots = {(each.arm, each.model): each.settings["slots"] for each in study.record.configurations}
    task = find_task("copy", None, {})
    for arm, given in (("few", 64), ("many", 4096)):
        assert slots[arm, "sam"] == given
        cases = {case.model: prediction_case(case, task) for case in study.cases.values() if case.slots == slots[arm, case.model]}
        most = size_of(cases["sam"])
        for model, next_slots in (("dam", slots[arm, "dam"] * 6 // 5), ("sdm", (math.isqrt(slots[arm, "sdm"]) + 2) ** 2)):
            assert size_of(cases[model]) <= most < size_of(cases[model].model_copy(update={"slots": next_slots}))
    assert slots["few", "dam"] < slots["many", "dam"]
    assert sum("dam gets N = " in note for note in study.notes) == 2
