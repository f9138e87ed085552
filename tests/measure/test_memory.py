"""Memory of tensors whose sizes are known beforehand: kept for backward, freed at once, hidden, leaked."""

import pytest
import torch
from torch import Tensor, nn

from mann_bench.data.case import Case
from mann_bench.data.options import Options
from mann_bench.measure.ledger import owners, state_tensors, storages
from mann_bench.measure.memory import build_recorded, fit_slope, held_by_cause, hidden_by_rounding, lengths, measure_memory, measure_pass
from mann_bench.measure.predict import predicted_bytes
from mann_bench.measure.trace import END, FORWARD
from mann_bench.measure.workload import ModelWorkload
from tests.support.ledgers import LEDGER_MODELS, check_ledger

MIB = 2**20


class Hoarder(nn.Module):
    """A model that saves 1 MiB a step for backward, allocates 4 MiB for a moment, and has 8 bytes of parameters; faults are optional."""

    def __init__(self, output_size: int, hidden_mib: int = 0, leak_mib: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.output_size, self.leak_mib = output_size, leak_mib
        self.table = torch.ones(hidden_mib * MIB // 4)  # neither parameter nor buffer nor state
        self.leaked: list[Tensor] = []

    def forward(self, x: Tensor, state: None) -> tuple[Tensor, None]:
        total = x.new_zeros(())
        for x_t in x:
            block = torch.ones(MIB // 4) * float(x_t.sum())
            total = total + (block * self.weight[0]).sum()  # autograd keeps `block`
            torch.ones(MIB)  # 4 MiB, freed at once
        if self.leak_mib:
            self.leaked.append(torch.ones(self.leak_mib * MIB // 4))
        return total.expand(*x.shape[:2], self.output_size).clone(), None


@pytest.fixture
def hoarder(monkeypatch):
    def make(mode="train", steps=8, **vices):
        monkeypatch.setattr("mann_bench.data.registry.ModelEntry.build", lambda self, case: Hoarder(case.output_size, **vices))
        case = Case(suite="s", model="lstm", slots=4, steps=steps, mode=mode)
        return build_recorded("cpu", lambda: ModelWorkload(case))

    return make


def residual(memory):
    assert sum(memory.ledger.values()) == memory.peak_bytes
    return abs(memory.ledger["unattributed"]) / memory.peak_bytes


def test_known_bytes_are_found(hoarder):
    workload, hidden = hoarder()
    memory = measure_memory(workload, hidden)
    assert hidden == 0
    assert memory.bytes_per_step == pytest.approx(MIB, rel=0.01)
    assert memory.bytes_per_step_low is not None
    assert memory.bytes_per_step_high is not None
    assert memory.bytes_per_step_low <= memory.bytes_per_step <= memory.bytes_per_step_high < 1.01 * MIB
    assert memory.tape_bytes == pytest.approx(8 * MIB, rel=0.01)
    assert memory.peak_bytes == pytest.approx(12 * MIB, rel=0.1)
    assert memory.ledger["parameters"] == 8
    assert memory.ledger["tape"] == pytest.approx(8 * MIB, rel=0.01)
    assert memory.ledger["workspace"] >= 4 * MIB
    assert memory.start_bytes == 8 + memory.ledger["inputs"]
    assert memory.leaked_bytes == 0
    assert residual(memory) < 0.001
    assert memory.rss_peak_bytes > 12 * MIB


def test_inference_keeps_nothing(hoarder):
    memory = measure_memory(*hoarder("infer"))
    assert memory.bytes_per_step == 0
    assert memory.peak_bytes == pytest.approx(5 * MIB, rel=0.1)
    assert memory.ledger["tape"] == memory.ledger["gradients"] == 0
    assert residual(memory) < 0.001


def test_a_single_step(hoarder):
    memory = measure_memory(*hoarder(steps=1))
    assert memory.bytes_per_step == pytest.approx(MIB, rel=0.01)
    assert memory.bytes_per_step_low is None
    assert measure_pass(hoarder()[0], 3).tape_bytes == pytest.approx(3 * MIB, rel=0.01)


def test_a_planted_leak_of_8_mib_is_found(hoarder):
    workload, hidden = hoarder(leak_mib=8)
    memory = measure_memory(workload, hidden)
    assert memory.leaked_bytes == pytest.approx(8 * MIB, rel=0.001)
    assert 8 * MIB <= memory.ledger["tape"] + memory.ledger["unattributed"] < 25 * MIB


def test_a_leak_is_distinguished_from_what_a_state_keeps_of_its_last_pass():
    for kernels in ("auto", "torch"):
        workload = ModelWorkload(Case(suite="s", model="sdnc", slots=64, steps=6, kernels=kernels))
        first, second = measure_pass(workload), measure_pass(workload)
        assert first.grown_bytes >= 0
        assert second.grown_bytes == 0


def test_a_hidden_table_is_of_unknown_cause(hoarder):
    workload, hidden = hoarder(hidden_mib=16)
    assert hidden == 16 * MIB
    memory = measure_memory(workload, hidden)
    assert memory.ledger["unattributed"] == 16 * MIB
    assert memory.leaked_bytes == 0


def test_every_step_of_the_trace(hoarder):
    """Memory grows by 1 MiB with each forward step and shrinks by 1 MiB with each backward step."""
    measured = measure_pass(hoarder()[0])
    tape = sorted(block.born_ns for block in measured.blocks["tape"] if block.size_bytes == MIB)
    assert len(tape) == 8
    held = held_by_cause(measured, [when + 1 for when in tape])["tape"]
    assert [round(size / MIB) for size in held] == [1, 2, 3, 4, 5, 6, 7, 8]
    after_forward, at_end = measured.trace.marks[FORWARD][1], measured.trace.marks[END][0]
    assert [round(size / MIB) for size in held_by_cause(measured, [after_forward, at_end])["tape"]] == [8, 0]


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize(("model", "slots"), LEDGER_MODELS)
def test_ledger_residual_of_every_model_is_under_2_percent(model, slots, mode):
    check_ledger(model, slots, mode, "cpu", 0.02)


@pytest.mark.parametrize(
    "name", ["lstm", "ntm", "dam", "dnc", "sam", "sdnc", "sam-torch", "sdnc-torch", "ntm-torch", "dam-torch", "dnc-torch"]
)
def test_prediction_is_near_the_measurement(name):
    model, _, kernels = name.partition("-")
    check_prediction(Case(suite="s", model=model, slots=2048, steps=12, kernels=kernels or "auto"))


@pytest.mark.parametrize(("model", "slots"), [("sam", 2048), ("sdnc", 2048), ("sdm", 2025)])
def test_rows_kept_rounded_take_what_is_predicted(model, slots):
    tapes = []
    for snapshot in ("exact", "bfloat16", "int8"):
        case = Case(suite="s", model=model, slots=slots, steps=12, options=Options({"snapshot": snapshot}))
        tapes.append(check_prediction(case).tape_bytes)
    assert tapes == sorted(tapes, reverse=True)
    assert len(set(tapes)) == 3


def check_prediction(case):
    """Assert that what a case takes is what its model predicts, and has known causes; returns what was measured."""
    workload, predicted = ModelWorkload(case), predicted_bytes(case)
    workload.run_pass()
    workload.clear()
    measured = measure_memory(workload)
    assert predicted is not None
    assert predicted["state"] == pytest.approx(measured.state_bytes, rel=0.05)
    assert predicted["tape"] == pytest.approx(measured.bytes_per_step * case.steps, rel=0.1)
    if case.model in ("sam", "sdnc") and workload.backend["kernels"] == "native":  # its tape is a list of arrays: nothing is left to guess
        assert predicted["tape"] == pytest.approx(measured.bytes_per_step * case.steps, rel=0.001)
    assert measured.ledger["unattributed"] <= 0.02 * measured.peak_bytes
    return measured


@pytest.mark.parametrize(
    ("variant", "kernels", "steps"),
    [("plain", "torch", 8), ("plain", "auto", 8), ("checkpointed", "auto", 20), ("native-checkpointed", "auto", 20)],
)
@pytest.mark.parametrize("name", ["ntm", "dam", "dnc"])
def test_predicted_peak_of_the_dense_models(name, variant, kernels, steps):
    case = Case(suite="s", model=name, variant=variant, slots=1024, steps=steps, kernels=kernels)
    workload = ModelWorkload(case)
    workload.run_pass()
    workload.clear()
    predicted = predicted_bytes(case)
    assert predicted is not None
    assert workload.backend["kernels"] == ("torch" if kernels == "torch" or variant == "checkpointed" else "native")
    measured = measure_memory(workload)
    assert sum(predicted.values()) == pytest.approx(measured.peak_bytes, rel=0.2)
    assert predicted["tape"] == pytest.approx(measured.tape_bytes, rel=0.2)
    assert measured.ledger["unattributed"] <= 0.02 * measured.peak_bytes


def test_storages_are_counted_once_and_named():
    shared = torch.zeros(10)
    state = {"memory": [shared, shared[2:]], "b": (torch.zeros(5), 3, "text", torch.zeros(0))}
    assert sum(storages(tensor for _, tensor in state_tensors(state, {})).values()) == 60
    assert [cause for cause, _ in state_tensors(state, {"memory": "memory"})] == ["memory", "memory", "state", "state"]
    cyclic: dict[str, object] = {"tensor": shared}
    cyclic["self"] = cyclic
    assert len(list(state_tensors(cyclic, {}))) == 1


def test_owners_of_a_state_of_links_and_rings():
    held = owners(ModelWorkload(Case(suite="s", model="sdnc", slots=64)))
    sizes = {cause: sum(part.values()) for cause, part in held.items() if part}
    assert sizes["memory"] == 64 * 32 * 4 + 64 * 4  # rows and norms
    assert sizes["link"] == 4 * 64 * 8 * 4 + 8 * 8 + 8 * 4  # four link arrays, the precedence
    assert sizes["ring_and_usage"] == 64 * 4 + 8  # last positions, the head
    assert sizes["state"] == 4 * (100 + 100 + 4 * 32) + 16 * (8 + 4)  # controller, read support
    assert set(sizes) == {"parameters", "memory", "link", "ring_and_usage", "state", "inputs"}


def test_slope_of_a_line_and_its_interval():
    assert lengths(16) == [6, 11, 16]
    assert lengths(1) == [1]
    assert fit_slope([(4, 40)]) == (10, None, None)
    assert fit_slope([(4, 50), (8, 90)]) == (10, None, None)
    slope, low, high = fit_slope([(4, 50), (8, 90), (12, 130), (12, 130)])
    assert (slope, low, high) == pytest.approx((10, 10, 10))
    slope, low, high = fit_slope([(4, 50), (8, 80), (12, 130), (12, 130)])
    assert low is not None
    assert high is not None
    assert low < slope < high


class TestRounding:
    """What a library fills up to whole pages hides how a tape grows."""

    def test_a_padded_block_may_hide_as_much_as_that_of_one_step(self):
        tapes = [(2, [8, 28672]), (4, [16, 28672])]
        assert hidden_by_rounding(tapes, lambda: [4, 12288]) == 12288
        assert hidden_by_rounding(tapes, lambda: [12288]) == 28672  # one step saves other blocks
        slope = fit_slope([(2, 28680), (3, 28684), (4, 28688)], 12288)
        assert slope == pytest.approx((4, 4 - 6144, 4 + 6144))

    @pytest.mark.parametrize(
        "tapes",
        [
            [(2, [8192]), (4, [16384])],  # proportional to the length
            [(2, [4096, 4096]), (4, [4096] * 4)],  # a block a step
            [(2, [100, 8]), (4, [100, 16])],
            [(4, [4096])],
        ],
    )
    def test_blocks_that_are_as_large_as_asked_for_hide_nothing(self, tapes):
        assert hidden_by_rounding(tapes, list) == 0

    def test_the_small_lstm_claims_no_certainty_that_it_does_not_have(self):
        """oneDNN saves whole pages. What a long sequence takes for a step is inside of the interval of a short one."""

        def measured(steps):
            workload = ModelWorkload(Case(suite="s", model="lstm", slots=4, hidden=32, steps=steps))
            workload.run_pass()
            workload.clear()
            return measure_memory(workload)

        short, long = measured(12), measured(200)
        assert short.bytes_per_step_low is not None
        assert short.bytes_per_step_high is not None
        assert short.bytes_per_step_low <= long.bytes_per_step <= short.bytes_per_step_high


@pytest.mark.parametrize("model", ["ntm", "dam", "dnc", "sam", "sdnc", "index:query"])
def test_bytes_are_predicted_without_the_compiler_of_torch(model, monkeypatch):
    """Fake tensors would load it, which takes longer than torch."""
    monkeypatch.setattr("torch._subclasses.fake_tensor.FakeTensorMode.__init__", None)
    for index in ("exact", "lsh") if model in ("sam", "sdnc", "index:query") else ("exact",):
        predicted = predicted_bytes(Case(suite="s", model=model, slots=4096, index=index))
        assert predicted is not None
        assert predicted["state"] > 0
