"""One case taken apart: time and memory of every step and phase, forward and backward, and the ledger of its peak.

How the steps are seen depends on the model, and is said (`Profile.how`):

- a model that loops over steps names them: one recorded pass shows them all;
- any other module is called once a step, its state carried along, with one backward over all;
- a sequence that runs as one native call has no steps to see from outside: passes of growing length are measured, each a point, and
  phases are told by the kernels' own clocks.
"""

import bisect
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from mann_bench.data.case import Case
from mann_bench.data.result import Backend, Memory, Record
from mann_bench.kernels.native.clocks import clocked
from mann_bench.machine.environment import device_name
from mann_bench.measure.device import open_device
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.memory import PassMemory, build_recorded, held_by_cause, lengths, measure_memory, measure_pass
from mann_bench.measure.predict import predicted_bytes
from mann_bench.measure.trace import BACKWARD, FORWARD, REST, held_at
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models.phases import steps as named_steps

POINTS = 8  # lengths measured where steps cannot be seen
PASSES = 5  # unrecorded, for the time of a pass
POINT_S = 1.5  # after which no further pass of one length is timed

How = Literal["steps of one pass", "one call a step", "passes of growing length"]


class PhaseTime(Record):
    """Time in one phase of one direction, over all steps of the recorded pass; `share` of the whole pass."""

    direction: str
    phase: str
    host_ms: float
    device_ms: float
    share: float


class StepPoint(Record):
    """After a step (or a pass of `step` steps): its time, the most held within it, and what each cause holds when it ends."""

    direction: str
    step: int
    ms: float
    peak_bytes: int
    held: dict[str, int]


class Profile(Record):
    """All of it. `pass_ms`: an unrecorded pass, forward and backward; `recorded_ms`: the recorded one, which profiling slows."""

    schema_version: int = 1
    case: Case
    backend: Backend = Field(alias="ran")
    how: How
    phases_of: str
    pass_ms: dict[str, float]
    recorded_ms: dict[str, float]
    phases: list[PhaseTime]
    points: list[StepPoint]
    memory: Memory
    predicted: dict[str, int] | None
    nvml_bytes: list[int]
    files: list[str]


def profile_case(case: Case, folder: Path) -> Profile:
    """Build the case's model and take a pass apart; writes `trace.json` (Chrome's) and on CUDA `memory_snapshot.pickle` into the folder."""
    workload, hidden_bytes = build_recorded(case.device, lambda: ModelWorkload(case))
    workload.try_step()
    workload.run_pass()
    workload.clear()
    pass_ms = time_pass(workload, case.steps)
    memory = measure_memory(workload, hidden_bytes)
    measured, how = _record(workload, hidden_bytes)
    files = ["trace.json"]
    nvml_bytes: list[int] = []
    timed = measured
    if case.device.startswith("cuda"):
        # After all memory is measured: from here on the GPU's profiler is attached, which takes memory and time of its own.
        timed = measure_pass(workload, hidden_bytes=hidden_bytes, gpu_kernels=True)
        nvml_bytes = nvml_per_step(workload)
        snapshot(workload, folder / "memory_snapshot.pickle")
        files.append("memory_snapshot.pickle")
    timed.trace.export(folder / "trace.json")
    backend = workload.backend
    phases, phases_of = phase_times(timed), f"this pass, kernels={backend['kernels']}"
    if how == "passes of growing length":
        # All recorded before any is timed: the allocator reports the release of a pass's tape only if it saw it allocated.
        taken = {length: measure_pass(workload, length, hidden_bytes) for length in lengths(case.steps, POINTS)}
        points = [point for length, one in taken.items() for point in length_points(one, length, time_pass(workload, length))]
        if backend["kernels"] == "native":
            phases, phases_of = clocked_phases(workload), "inside the native calls, by their own clocks; rest: around them"
    else:
        points = step_points(measured)
    return Profile(
        case=case,
        backend=Backend(**backend, device_name=device_name(case.device)),
        how=how,
        phases_of=phases_of,
        pass_ms=pass_ms,
        recorded_ms={direction: (end - start) / 1e6 for direction, (start, end) in measured.trace.marks.items() if direction in pass_ms},
        phases=phases,
        points=points,
        memory=memory,
        predicted=predicted_bytes(case),
        nvml_bytes=nvml_bytes,
        files=files,
    )


def time_pass(workload: ModelWorkload, steps: int) -> dict[str, float]:
    """Median time in ms of forward and of backward over `steps` steps, unrecorded, on the wall clock to the end of the device's work."""
    device = open_device(workload.case.device)
    taken: dict[str, list[float]] = defaultdict(list)
    began = time.perf_counter()
    held: list[Any] = []  # what forward returned, until its backward is over
    while len(taken[FORWARD]) < PASSES and (not taken[FORWARD] or time.perf_counter() - began < POINT_S):
        taken[FORWARD].append(device.time(lambda: held.append(workload.forward(steps))).wall_ms)
        if workload.case.mode == "train":
            taken[BACKWARD].append(device.time(lambda: workload.backward(held[0][0])).wall_ms)
        held.clear()
        workload.clear()
    return {direction: statistics.median(values) for direction, values in taken.items()}


def call_each_step(workload: ModelWorkload) -> Callable[[], tuple[Any, Any]]:
    """A forward that calls the model once for each step, its state carried along."""

    def forward() -> tuple[Any, Any]:
        outputs, state = [], workload.state
        with torch.set_grad_enabled(workload.case.mode == "train"):
            for x_t in named_steps(workload.inputs.split(1)):
                y, state = workload.model(x_t, state)
                outputs.append(y)
            return torch.cat(outputs), state

    return forward


def phase_times(measured: PassMemory) -> list[PhaseTime]:
    """Host and device time by direction and phase, all steps together; largest first within a direction."""
    totals: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for place, spent in measured.trace.spent.items():
        host, device = totals[place.direction, place.phase]
        totals[place.direction, place.phase] = (host + spent.host_ns, device + spent.device_ns)
    on_device = any(device for _, device in totals.values())
    whole = sum(device if on_device else host for host, device in totals.values()) or 1
    rows = [
        PhaseTime(
            direction=direction, phase=phase, host_ms=host / 1e6, device_ms=device / 1e6, share=(device if on_device else host) / whole
        )
        for (direction, phase), (host, device) in totals.items()
        if host or device
    ]
    return sorted(rows, key=lambda row: (row.direction != FORWARD, -row.share))


def clocked_phases(workload: ModelWorkload) -> list[PhaseTime]:
    """As `phase_times`, of passes that run as native calls; `rest` is what of a pass's time lies outside of them or happens once a pass."""
    case, on_device = workload.case, workload.case.device.startswith("cuda")
    abreast = torch.cuda.get_device_properties(case.device).multi_processor_count if on_device else torch.get_num_threads()
    with clocked() as clocks:
        taken = time_pass(workload, case.steps)
    spent_ms = {place: ns / 1e6 for place, ns in clocks.spent_ns(abreast).items()}
    for direction, ms in taken.items():
        inside = sum(own for place, own in spent_ms.items() if place[0] == direction and place[1] != REST)
        spent_ms[direction, REST] = max(0.0, ms - inside)
    whole = sum(spent_ms.values())
    rows = [
        PhaseTime(direction=direction, phase=phase, host_ms=0 if on_device else ms, device_ms=ms if on_device else 0, share=ms / whole)
        for (direction, phase), ms in spent_ms.items()
    ]
    return sorted(rows, key=lambda row: (row.direction != FORWARD, -row.share))


def step_points(measured: PassMemory) -> list[StepPoint]:
    """One point a step, forward then backward, from the recorded pass."""
    trace = measured.trace
    changes = [when for when, _ in trace.totals]
    totals = held_at([block for blocks in measured.blocks.values() for block in blocks], changes)
    points = []
    for direction in (FORWARD, BACKWARD):
        ends = sorted((end, step) for step, end in trace.step_ends[direction].items())
        if not ends:
            continue
        moments = [end for end, _ in ends]
        held = held_by_cause(measured, moments)
        began = bisect.bisect_left(changes, trace.marks[direction][0])
        for number, (end, step) in enumerate(ends):
            ended = bisect.bisect_right(changes, end)
            now = {cause: held[cause][number] for cause in CAUSES}
            places = [spent for place, spent in trace.spent.items() if place.direction == direction and place.step == step]
            points.append(
                StepPoint(
                    direction=direction,
                    step=step + 1,
                    ms=sum(spent.host_ns for spent in places) / 1e6,
                    peak_bytes=max([sum(now.values()), *(total + measured.hidden_bytes for total in totals[began:ended])]),
                    held=now,
                )
            )
            began = ended
    return points


def length_points(measured: PassMemory, length: int, times: dict[str, float]) -> list[StepPoint]:
    """Two points from a pass of `length` steps of its own: at the end of forward and of backward; time is a step's share of the pass."""
    points = []
    for direction, ms in times.items():
        held = held_by_cause(measured, [measured.trace.marks[direction][1]])
        now = {cause: sizes[0] for cause, sizes in held.items()}
        peak = measured.peak_bytes
        points.append(StepPoint(direction=direction, step=length, ms=ms / length, peak_bytes=peak, held=now))
    return points


def nvml_per_step(workload: ModelWorkload) -> list[int]:
    """GPU memory of this process as the driver counts it, after each step of a forward and after the pass; [] if it cannot be read."""
    device = open_device(workload.case.device)
    read: list[int] = []

    def note(*_: Any) -> None:
        sensors = device.sensors()
        if sensors is not None and sensors.process_bytes is not None:
            read.append(sensors.process_bytes)

    cell = getattr(workload.model, "controller", None)
    hook = cell.register_forward_hook(note) if isinstance(cell, torch.nn.LSTMCell) else None
    with torch.autograd.profiler.emit_nvtx():  # for whoever runs this under Nsight: the same phases as ranges
        workload.run_pass()
    note()
    workload.clear()
    if hook is not None:
        hook.remove()
    return read


def snapshot(workload: ModelWorkload, path: Path) -> None:
    """A pass's history of the CUDA allocator for PyTorch's viewer (pytorch.org/memory_viz)."""
    torch.cuda.memory._record_memory_history(max_entries=10**6)
    try:
        workload.run_pass()
        torch.cuda.memory._dump_snapshot(str(path))
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    workload.clear()


def _record(workload: ModelWorkload, hidden_bytes: int) -> tuple[PassMemory, How]:
    """A recorded pass, its steps visible if there is a way to see them."""
    measured = measure_pass(workload, hidden_bytes=hidden_bytes)
    if measured.trace.step_ends[FORWARD]:
        return measured, "steps of one pass"
    if workload.backend["kernels"] == "native":
        return measured, "passes of growing length"
    try:
        return measure_pass(workload, hidden_bytes=hidden_bytes, forward=call_each_step(workload)), "one call a step"
    except (RuntimeError, ValueError):  # a module may insist on whole sequences
        workload.clear()
        return measured, "passes of growing length"
