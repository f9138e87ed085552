"""Profile one case: time and memory of each step and phase, forward and backward, and whose bytes the peak is.

Where the steps come from depends on the model (`Profile.how`):

- a model that loops over steps names them: one recorded pass shows all;
- any other module is called once for each step, its state passed on, with one backward over all;
- a sequence that runs as one native call shows no steps: passes of growing length are measured instead, each a point, and the kernels'
  own clocks tell the phases.
"""

import bisect
import statistics
from collections import defaultdict
from pathlib import Path
from time import perf_counter  # a model may replace that of the module
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.data.result import Backend, Memory, Record
from mann_bench.kernels.native.clocks import clocked
from mann_bench.machine.devices import device_name
from mann_bench.measure.device import open_device
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.memory import (
    EVENT_BYTES_WITH_OPERATIONS,
    Forward,
    PassMemory,
    build_recorded,
    check_room,
    held_by_cause,
    lengths,
    measure_memory,
    measure_pass,
)
from mann_bench.measure.others import Others
from mann_bench.measure.predict import predicted_bytes
from mann_bench.measure.trace import BACKWARD, FORWARD, REST, held_at
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models.phases import steps as named_steps

POINTS = 8  # lengths to measure where steps are not visible
PASSES = 5  # passes to time, without recording
POINT_S = 1.5  # time after which no further pass of one length is timed

StepSource = Literal["steps of one pass", "one call a step", "passes of growing length"]


class PhaseTime(Record):
    """Time in one phase, forward or backward, over all steps of the recorded pass; `share` is its part of the whole pass."""

    direction: str
    phase: str
    host_ms: float
    device_ms: float
    share: float


class StepPoint(Record):
    """One step, or one pass of `step` steps: its time, the peak within it, and what each cause holds at its end.

    `peak_bytes` is absolute: all that the allocator has given out, what was held before the pass included.
    """

    direction: str
    step: int
    ms: float
    peak_bytes: int
    held: dict[str, int]


class Profile(Record):
    """The profile of a case.

    Attributes:
        how: where the steps come from.
        phases_of: what the phases were measured in.
        pass_ms: time of a pass without recording, forward and backward.
        recorded_ms: time of the recorded pass, which recording slows.
        nvml_bytes: GPU memory of the process after each step of a forward and after the pass; empty if it cannot be read.
        files: names of further files in the folder.
        warnings: sentences about what makes the times less certain.
    """

    schema_version: int = 1
    case: Case
    backend: Backend = Field(alias="ran")
    how: StepSource
    phases_of: str
    pass_ms: dict[str, float]
    recorded_ms: dict[str, float]
    phases: list[PhaseTime]
    points: list[StepPoint]
    memory: Memory
    predicted: dict[str, int] | None
    nvml_bytes: list[int]
    files: list[str]
    warnings: list[str] = Field(default_factory=list)


def profile_case(case: Case, folder: Path) -> Profile:
    """Build the case's model and profile it. Writes `trace.json` (for chrome://tracing) and, on CUDA, `memory_snapshot.pickle`."""
    others = Others()
    workload, hidden_bytes = build_recorded(case.device, lambda: ModelWorkload(case))
    workload.smoke_test()
    workload.run_pass()
    workload.clear()
    times_ms = time_passes(workload, case.steps)
    pass_ms = {direction: statistics.median(times) for direction, times in times_ms.items()}
    memory = measure_memory(workload, hidden_bytes)
    measured, how = _record(workload, hidden_bytes)
    files = ["trace.json"]
    nvml_bytes: list[int] = []
    timed = measured
    if case.device.startswith("cuda"):
        # After all memory is measured: from here on the GPU's profiler is attached, which takes memory and time of its own.
        timed = measure_pass(workload, hidden_bytes=hidden_bytes, operations=True, gpu_kernels=True)
        nvml_bytes = nvml_per_step(workload)
        snapshot(workload, folder / "memory_snapshot.pickle")
        files.append("memory_snapshot.pickle")
    timed.trace.export(folder / "trace.json")
    backend = workload.backend
    phases, phases_of = phase_times(timed), f"this pass, kernels={backend['kernels']}"
    if how == "passes of growing length":
        # All are recorded before any is timed: the allocator reports the release of a tape only if it reported its allocation.
        passes = {length: measure_pass(workload, length, hidden_bytes) for length in lengths(case.steps, POINTS)}
        points = [point for length, one_pass in passes.items() for point in length_points(one_pass, length, time_pass(workload, length))]
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
        warnings=others.warnings([sum(both) for both in zip(*times_ms.values(), strict=True)]),
    )


def time_pass(workload: ModelWorkload, steps: int) -> dict[str, float]:
    """Median wall-clock time in ms of forward and of backward over `steps` steps."""
    return {direction: statistics.median(values) for direction, values in time_passes(workload, steps).items()}


def time_passes(workload: ModelWorkload, steps: int) -> dict[str, list[float]]:
    """Wall-clock times in ms of passes, forward and backward, over `steps` steps, without recording, to the end of the device's work."""
    device = open_device(workload.case.device)
    times_ms: dict[str, list[float]] = defaultdict(list)
    began = perf_counter()
    returned: list[tuple[Tensor, object]] = []  # by forward, kept until its backward is over
    while len(times_ms[FORWARD]) < PASSES and (not times_ms[FORWARD] or perf_counter() - began < POINT_S):
        times_ms[FORWARD].append(device.time(lambda: returned.append(workload.forward(steps))).wall_ms)
        if workload.case.mode == "train":
            times_ms[BACKWARD].append(device.time(lambda: workload.backward(returned[0][0])).wall_ms)
        returned.clear()
        workload.clear()
    return dict(times_ms)


def call_each_step(workload: ModelWorkload) -> Forward:
    """A forward that calls the model once for each step and passes its state on."""

    def forward() -> tuple[Tensor, object]:
        outputs, state = [], workload.state
        with torch.set_grad_enabled(workload.case.mode == "train"):
            for x_t in named_steps(torch.split(workload.inputs, 1)):
                y, state = workload.model(x_t, state)
                outputs.append(y)
            return torch.cat(outputs), state

    return forward


def phase_times(measured: PassMemory) -> list[PhaseTime]:
    """Host and device time of each phase, all steps together; forward before backward, the largest first."""
    totals: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for scope, spent in measured.trace.scope_times.items():
        host, device = totals[scope.direction, scope.phase]
        totals[scope.direction, scope.phase] = (host + spent.host_ns, device + spent.device_ns)
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
    """As `phase_times`, for passes that run as native calls; phase `rest` is the time outside of these calls."""
    case, on_device = workload.case, workload.case.device.startswith("cuda")
    parallel = torch.cuda.get_device_properties(case.device).multi_processor_count if on_device else torch.get_num_threads()
    with clocked() as clocks:
        pass_ms = time_pass(workload, case.steps)
    phase_ms = {key: ns / 1e6 for key, ns in clocks.spent_ns(parallel).items()}  # by direction and phase
    for direction, whole_ms in pass_ms.items():
        inside_ms = sum(ms for (side, phase), ms in phase_ms.items() if side == direction and phase != REST)
        phase_ms[direction, REST] = max(0.0, whole_ms - inside_ms)
    total_ms = sum(phase_ms.values())
    rows = [
        PhaseTime(direction=direction, phase=phase, host_ms=0 if on_device else ms, device_ms=ms if on_device else 0, share=ms / total_ms)
        for (direction, phase), ms in phase_ms.items()
    ]
    return sorted(rows, key=lambda row: (row.direction != FORWARD, -row.share))


def step_points(measured: PassMemory) -> list[StepPoint]:
    """One point for each step, forward then backward, from the recorded pass."""
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
        began = bisect.bisect_left(changes, trace.after(FORWARD)) if direction == BACKWARD else 0
        for number, (end, step) in enumerate(ends):
            ended = bisect.bisect_right(changes, end)
            now = {cause: held[cause][number] for cause in CAUSES}
            times = [time for scope, time in trace.scope_times.items() if scope.direction == direction and scope.step == step]
            points.append(
                StepPoint(
                    direction=direction,
                    step=step + 1,
                    ms=sum(time.host_ns for time in times) / 1e6,
                    peak_bytes=max([sum(now.values()), *(total + measured.hidden_bytes for total in totals[began:ended])]),
                    held=now,
                )
            )
            began = ended
    return points


def length_points(measured: PassMemory, length: int, times: dict[str, float]) -> list[StepPoint]:
    """Points from a recorded pass of `length` steps: at the end of forward and of backward. Their time is that of a pass over its steps."""
    points = []
    for direction, ms in times.items():
        held = held_by_cause(measured, [measured.trace.after(direction)])
        now = {cause: sizes[0] for cause, sizes in held.items()}
        peak = measured.peak_bytes
        points.append(StepPoint(direction=direction, step=length, ms=ms / length, peak_bytes=peak, held=now))
    return points


def nvml_per_step(workload: ModelWorkload) -> list[int]:
    """GPU memory of this process as the driver counts it, after each step of a forward and after the pass; empty if it cannot be read."""
    device = open_device(workload.case.device)
    readings: list[int] = []

    def note(*_: object) -> None:
        sensors = device.sensors()
        if sensors is not None and sensors.process_bytes is not None:
            readings.append(sensors.process_bytes)

    cell = getattr(workload.model, "controller", None)
    by_step = workload.backend["kernels"] != "native"  # native kernels would not run on a layer that has a hook
    hook = cell.register_forward_hook(note) if by_step and isinstance(cell, torch.nn.LSTMCell) else None
    try:
        with torch.autograd.profiler.emit_nvtx():  # under Nsight, the phases appear as ranges
            workload.run_pass()
    finally:
        if hook is not None:
            hook.remove()
    note()
    workload.clear()
    return readings


def snapshot(workload: ModelWorkload, path: Path) -> None:
    """Write the CUDA allocator's history of one pass, for PyTorch's viewer (pytorch.org/memory_viz)."""
    try:
        torch.cuda.memory._record_memory_history(max_entries=10**6)
        workload.run_pass()
        torch.cuda.memory._dump_snapshot(str(path))
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    workload.clear()


def _record(workload: ModelWorkload, hidden_bytes: int) -> tuple[PassMemory, StepSource]:
    """Record a pass, with its steps visible if possible."""
    steps, length = workload.case.steps, lengths(workload.case.steps)[0]
    check_room(measure_pass(workload, length), length, steps, EVENT_BYTES_WITH_OPERATIONS)
    measured = measure_pass(workload, hidden_bytes=hidden_bytes, operations=True)
    if measured.trace.step_ends[FORWARD]:
        return measured, "steps of one pass"
    if workload.backend["kernels"] == "native":
        return measured, "passes of growing length"
    try:
        return measure_pass(workload, hidden_bytes=hidden_bytes, forward=call_each_step(workload), operations=True), "one call a step"
    except (RuntimeError, ValueError):  # a module may insist on whole sequences
        workload.clear()
        return measured, "passes of growing length"
