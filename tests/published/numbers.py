"""Numbers in README.md and docs/: each stands between two markers, and comes from the committed results; tables of keys from the code.

`<!-- data: NAME -->text<!-- end -->` is filled with what the entry NAME of `NUMBERS` gives.

python -m tests.published.numbers          writes the numbers into the pages
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.published.card import CARD_NUMBERS
from tests.published.formats import budget_table, case_table, key_table, setting_table
from tests.published.indexes import INDEX_NUMBERS, SIZES
from tests.published.minutes import target_minutes
from tests.published.results import (
    MILLION,
    SIXTEEN_MILLION,
    XEON,
    case,
    claim,
    fastest_dense,
    gains_of_native_dense,
    gpu_ms,
    gpu_speedup,
    long_sequence_s,
    minutes,
    native_dense_gain,
    native_gain,
    native_us,
    ntm_at_a_million,
    ntm_spread,
    on_gpu,
    rate,
    reference_copies,
    search_by_two,
    sixteen_millions,
    speedup,
    step_ms,
    times_the_controller,
    two_threads,
)
from tests.published.short_pass import shares
from tests.published.studies import (
    against_sam,
    arms,
    at_goal,
    babi_by_model,
    babi_guess,
    errors_by_level,
    errors_of_arms,
    highest_levels,
    rows_and_writes,
    sequences_by_level,
    sequences_trained,
    slots_of_models,
    times_sams,
    to_the_goal,
)
from tests.published.today import TODAY_NUMBERS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "results").glob("**/README.md"))]
EQUAL_BYTES, COPY, DENSE = f"equal-bytes-{XEON}", f"efficiency-copy-{XEON}", f"dense-{XEON}"
MARKED = re.compile(r"<!-- data: ([\w-]+) -->(.*?)<!-- end -->", re.DOTALL)
NUMBERS: dict[str, tuple[str, Callable[[], list[object]]]] = {  # by the name in a marker: a text, and what computes its numbers
    "study-recall": ("{}", lambda: [to_the_goal("efficiency", "recall")]),
    "study-recall-against-sam": ("{}", lambda: [against_sam("efficiency", "recall")]),
    "study-recall-rows": ("{} rows, up to {}", lambda: [*rows_and_writes("efficiency", "recall")]),
    "study-sort": ("{}", lambda: [to_the_goal("efficiency", "priority-sort")]),
    "study-sort-against-sam": ("{}", lambda: [against_sam("efficiency", "priority-sort")]),
    "study-sort-rows": ("{} rows, up to {}", lambda: [*rows_and_writes("efficiency", "priority-sort")]),
    "study-dam": (
        "{} times SAM's sequences on copy, {} on priority sort",
        lambda: [times_sams(COPY, "copy", "dam"), times_sams("efficiency", "priority-sort", "dam")],
    ),
    "study-copy": ("{}", lambda: [to_the_goal(COPY, "copy")]),
    "study-copy-against-sam": ("{}", lambda: [against_sam(COPY, "copy")]),
    "study-copy-rmsprop": ("{}", lambda: [to_the_goal(f"efficiency-copy-rmsprop-{XEON}", "copy")]),
    "study-copy-rmsprop-against-sam": ("{}", lambda: [against_sam(f"efficiency-copy-rmsprop-{XEON}", "copy")]),
    "study-copy-rows": ("{} rows, and a sequence writes up to {}", lambda: [*rows_and_writes(COPY, "copy")]),
    "ablations": ("{}", lambda: [arms(f"ablations-{XEON}", "recall")]),
    "ablation-index": ("{}", lambda: [errors_of_arms(f"ablation-index-{XEON}", "recall")]),
    "ablation-index-goal": ("{} of {}", lambda: [*at_goal(f"ablation-index-{XEON}", "recall")]),
    "hashed-sequences": ("{}", lambda: [sequences_by_level(f"curriculum-hashed-{XEON}", "recall", last=2)]),
    "hashed-errors": ("{}", lambda: [errors_by_level(f"curriculum-hashed-{XEON}", "recall").removeprefix("SAM ")]),
    "curriculum-level": ("{}", lambda: [highest_levels(f"curriculum-2M-{XEON}", "recall").removeprefix("SAM ")]),
    "curriculum-errors": ("{}", lambda: [errors_by_level(f"curriculum-2M-{XEON}", "recall").removeprefix("SAM ")]),
    "babi-errors": ("{}", lambda: [babi_by_model(f"table1-{XEON}")]),
    "babi-guess": ("{}", lambda: [babi_guess(f"table1-{XEON}")]),
    "babi-stories": ("{}", lambda: [sequences_trained(f"table1-{XEON}", "babi")]),
    "figure4-levels": ("{}", lambda: [highest_levels(f"figure4-{XEON}", "omniglot")]),
    "figure4-errors": ("{}", lambda: [errors_by_level(f"figure4-{XEON}", "omniglot")]),
    "equal-bytes-copy": ("{}", lambda: [to_the_goal(EQUAL_BYTES, "copy")]),
    "equal-bytes-copy-against-sam": ("{}", lambda: [against_sam(EQUAL_BYTES, "copy")]),
    "equal-bytes-copy-slots": ("{}", lambda: [slots_of_models(EQUAL_BYTES, "copy")]),
    "equal-bytes-recall": ("{}", lambda: [to_the_goal(EQUAL_BYTES, "recall")]),
    "equal-bytes-recall-against-sam": ("{}", lambda: [against_sam(EQUAL_BYTES, "recall")]),
    "equal-bytes-recall-slots": ("{}", lambda: [slots_of_models(EQUAL_BYTES, "recall")]),
    "one-head": (
        "at one head {:,.0f} times [{:,.0f}, {:,.0f}] as fast as the NTM "
        "in torch and {:,.0f} times [{:,.0f}, {:,.0f}] as fast as the fastest dense curve, {}",
        lambda: [*speedup(1, fastest=False), *speedup(1, fastest=True), fastest_dense(1)],
    ),
    "four-heads": (
        "at four heads {:,.0f} [{:,.0f}, {:,.0f}] and {:,.0f} [{:,.0f}, {:,.0f}] ({})",
        lambda: [*speedup(4, fastest=False), *speedup(4, fastest=True), fastest_dense(4)],
    ),
    "hash-recall": (
        "recall {:.2f}",
        lambda: [case("paper", model="sam", index="lsh", slots=MILLION, batch=1, steps=10, heads=1)["recall"]],
    ),
    "ntm-time": ("The NTM took {:.0f} ms a step, with a spread of {:.0%}", lambda: [ntm_at_a_million()["step_ms_median"], ntm_spread()]),
    "sixteen-millions": (
        "{:.2f} [{:.2f}, {:.2f}] and {:.2f} [{:.2f}, {:.2f}] times as long as one million at one head and four: "
        "medians and quartiles of rounds",
        lambda: [*sixteen_millions(1), *sixteen_millions(4)],
    ),
    "native": (
        "1 and 4 heads: {:.0f} and {:.0f} times at batch 1, {:.0f} and {:.0f} at batch 8",
        lambda: [native_gain(heads, batch) for batch in (1, 8) for heads in (1, 4)],
    ),
    "controller": (
        "at one head: {:.2f} times at batch 1, {:.2f} at batch 8 ({:.2f} on two threads)",
        lambda: [times_the_controller(1, 1), times_the_controller(8, 1), times_the_controller(8, 2)],
    ),
    "two-threads": (
        "at batch 8: {:.2f} and {:.2f} times for SAM, {:.2f} and {:.2f} for the SDNC",
        lambda: [two_threads(model, heads) for model in ("sam", "sdnc") for heads in (1, 4)],
    ),
    "search-by-two": (
        "{:.2f} [{:.2f}, {:.2f}] and {:.2f} [{:.2f}, {:.2f}] times as fast as one at one head and four",
        lambda: [*search_by_two(1), *search_by_two(4)],
    ),
    "native-dense-xeon": (
        "{:.1f}, {:.1f} and {:.1f} times as fast as step by step and {:.1f}, {:.1f} and {:.1f} times as compiled",
        lambda: [*gains_of_native_dense(DENSE)],
    ),
    "native-dense": (
        "{:.1f}, {:.1f} and {:.1f}, and {:.1f}, {:.1f} and {:.1f}",
        lambda: [*gains_of_native_dense("dense")],
    ),
    "native-dnc-xeon": (
        "{:.1f} times as fast as compiled, {:.1f} as checkpointed and {:.1f} as step by step",
        lambda: [native_dense_gain(DENSE, "dnc", way, slots=2048, steps=10) for way in ("compiled", "checkpointed", "plain")],
    ),
    "flat": (
        "Flat in N: {:.1f}, {:.1f} and {:.1f} us a step at 4k, 4M and 16M",
        lambda: [native_us(n) for n in (2**12, 2**22, SIXTEEN_MILLION)],
    ),
    "tape": (
        "the tape of four heads over 100 steps is {:.2f} MiB",
        lambda: [case("kernels", model="sam", kernels="native", heads=4, batch=1, slots=2**12)["tape_bytes"] / 2**20],
    ),
    "long-sequence": ("train in one piece, {:.1f} s", lambda: [long_sequence_s()]),
    "links": (
        "The SDNC's links take {:.1f} us a step",
        lambda: [1e3 * step_ms("kernels", model="op:link_steps", kernels="native", slots=2**16, batch=1, fill="full")],
    ),
    "not-reproduced": (
        "an exact search is {:.0f} times as fast as the NTM, not 100, and memory over 100 steps is {:,.0f} times less, not 3,700",
        lambda: [claim("time-exact"), claim("memory-ratio")],
    ),
    "gpu-million-short": (
        "a training step of SAM takes {:.3f} ms on an H100, of the NTM {:.0f} ms",
        lambda: [gpu_ms("sam-graph lsh"), gpu_ms("ntm")],
    ),
    "gpu-million": (
        "The NTM takes {:.1f} ms a step, {:.1f} replayed from a graph. SAM on its hash index replayed from a graph takes {:.3f} ms: "
        "{:.0f} times [{:.0f}, {:.0f}] and {:.0f} times [{:.0f}, {:.0f}] as fast. With an exact search SAM takes {:.3f} ms, "
        "{:.0f} and {:.0f} times as fast. Not replayed SAM takes {:.3f} ms on the index",
        lambda: [
            *map(gpu_ms, ("ntm", "ntm-graph", "sam-graph lsh")),
            *gpu_speedup("sam-graph lsh", "ntm"),
            *gpu_speedup("sam-graph lsh", "ntm-graph"),
            gpu_ms("sam-graph exact"),
            *(gpu_speedup("sam-graph exact", twin)[0] for twin in ("ntm", "ntm-graph")),
            gpu_ms("sam lsh"),
        ],
    ),
    "gpu-long": (
        "SAM on its index takes {:.3f} ms a step at a million slots and {:.3f} at 64k",
        lambda: [gpu_ms("sam lsh", slots, 100) for slots in reversed(SIZES)],
    ),
    "gpu-sdnc": (
        "{:.3f} and {:.2f} ms a step from graphs, {:.1f} times; {:.3f} and {:.2f} ms without, {:.0f} times",
        lambda: [
            *(gpu_ms(curve, 2048) for curve in ("sdnc-graph exact", "dnc-graph")),
            gpu_speedup("sdnc-graph exact", "dnc-graph", 2048)[0],
            *(gpu_ms(curve, 2048) for curve in ("sdnc exact", "dnc")),
            gpu_speedup("sdnc exact", "dnc", 2048)[0],
        ],
    ),
    "gpu-memory": (
        "The NTM keeps {:.2f} GB a step for backward, SAM {:.0f} kB on the index and {:.0f} kB with an exact search",
        lambda: [on_gpu(curve)["bytes_per_step"] / unit for curve, unit in (("ntm", 1e9), ("sam lsh", 1e3), ("sam exact", 1e3))],
    ),
    "minutes": ("`make bench` takes {:.0f} minutes and `make paper` {:.0f}", lambda: [minutes("quick"), minutes("paper")]),
    "short-pass": ("{}", lambda: [shares()]),
    "target-minutes": ("{}", lambda: [target_minutes()]),
    "ntm-rate": ("{}", lambda: [rate("ntm")]),
    "reference-copies": ("\n{}", lambda: [reference_copies()]),
    "suite-keys": ("\n{}", lambda: [key_table("suite")]),
    "case-keys": ("\n{}", lambda: [case_table()]),
    "budget-keys": ("\n{}", lambda: [budget_table()]),
    "study-keys": ("\n{}", lambda: [key_table("study")]),
    "setting-keys": ("\n{}", lambda: [setting_table()]),
    "our-ntm": (
        "our NTM keeps {:.0f} bytes a slot and step",
        lambda: [
            case("paper", model="ntm", variant="plain", ran_kernels="torch", slots=2**16, batch=1, steps=100)["bytes_per_step"] / 2**16
        ],
    ),
    **CARD_NUMBERS,
    **INDEX_NUMBERS,
    **TODAY_NUMBERS,
}


@cache
def computed(name: str) -> str:
    """The text of an entry of `NUMBERS` with its numbers."""
    text, compute = NUMBERS[name]
    return text.format(*compute())


def filled(page: str) -> str:
    """The text of a page with all its numbers; lines that hold the right ones are left as they are broken.

    Raises:
        KeyError: there is no entry of that name.
    """

    def fill(marked: re.Match[str]) -> str:
        name, old = marked.groups()
        new = computed(name)
        return f"<!-- data: {name} -->{old if old.split() == new.split() else new}<!-- end -->"

    return MARKED.sub(fill, page)


def main() -> None:
    """Run as a program."""
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (new := filled(page)) != page:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: new numbers")


if __name__ == "__main__":
    main()
