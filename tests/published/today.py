"""What the runs of suite `today`, and of SDM beside SAM alone, give, as published numbers need it."""

from collections.abc import Callable

import pandas as pd

from mann_bench.data.options import Options
from mann_bench.data.units import format_bytes
from tests.published.results import MILLION, SIXTEEN_MILLION, XEON, frame, result, times_as_long

RUN = "today"
SDM, SDM_ON_XEON = "sdm", f"sdm-{XEON}"


def step(model: str, *, index: str = "", controller: str = "") -> pd.Series:
    """The training case of a model at a million slots, batch 1."""
    rows = frame(RUN)
    rows = rows[(rows["model"] == model) & (rows["slots"] == MILLION) & (rows["batch"] == 1) & (rows["mode"] == "train")]
    rows = rows[rows["options"] == (f"controller={controller}" if controller else "")]
    return (rows[rows["index"] == index] if index else rows).iloc[0]


def sdms() -> tuple[pd.Series, pd.Series]:
    """SDM behind an LSTM and alone."""
    return step("sdm", controller="lstm"), step("sdm", controller="none")


def fast_weight() -> pd.Series:
    """The package fast-weight-product-key-memory."""
    return step("fast-weight-product-key-memory")


def times_as_fast(subject: pd.Series, other: pd.Series) -> tuple[float, float, float]:
    """How many times as fast a step of the subject is as that of another case of the run; the interval takes both at their worst."""
    return (
        other["step_ms_median"] / subject["step_ms_median"],
        other["step_ms_ci_low"] / subject["step_ms_ci_high"],
        other["step_ms_ci_high"] / subject["step_ms_ci_low"],
    )


def kept(case: pd.Series) -> str:
    """What a step keeps for backward, as text."""
    return format_bytes(case["bytes_per_step"])


def sdm_against_sam(run: str, heads: int, factors: int) -> tuple[float, float, float]:
    """Time of a step of SDM as a multiple of SAM's with few live rows, at a million slots (`times_as_long`)."""
    sdm = result(run, slots=MILLION, heads=heads, **sdm_alone(factors))
    return times_as_long(sdm, result(run, model="sam", slots=MILLION, heads=heads, seed=sdm.case.seed))


def growth(run: str, heads: int, **fields: object) -> tuple[float, float, float]:
    """Time of a step of a model at 16M slots as a multiple of that at 4k (`times_as_long`)."""
    many, few = (result(run, slots=slots, heads=heads, **fields) for slots in (SIXTEEN_MILLION, 2**12))
    return times_as_long(many, few)


def sdm_alone(factors: int) -> dict[str, object]:
    """The fields of SDM without a controller, with product keys of so many factors."""
    return {"model": "sdm", "options": Options({"controller": "none", "factors": factors})}


TODAY_NUMBERS: dict[str, tuple[str, Callable[[], list[object]]]] = {
    "today-million": (
        "SAM takes {:.2f} ms a training step at a million slots by its hash index and {:.0f} by a scan of all rows, SDM {:.2f} behind the "
        "same LSTM and {:.2f} without one, the package fast-weight-product-key-memory {:,.0f}",
        lambda: [found["step_ms_median"] for found in (step("sam", index="lsh"), step("sam", index="live"), *sdms(), fast_weight())],
    ),
    "today-bytes": (
        "SAM keeps {}, SDM {} and without a controller {}, PKM {}, fast-weight-product-key-memory {}",
        lambda: [*map(kept, (step("sam", index="lsh"), *sdms(), step("pkm", controller="lstm"), fast_weight()))],
    ),
    "today-fast-weight": (
        "{:,.0f} times [{:,.0f}, {:,.0f}]",
        lambda: [*times_as_fast(sdms()[1], fast_weight())],
    ),
    "sdm-against-sam": (
        "{:.2f} times [{:.2f}, {:.2f}] as long at one head and {:.2f} [{:.2f}, {:.2f}] at four with keys of two factors, "
        "{:.2f} [{:.2f}, {:.2f}] and {:.2f} [{:.2f}, {:.2f}] with keys of four",
        lambda: [number for factors in (2, 4) for heads in (1, 4) for number in sdm_against_sam(SDM, heads, factors)],
    ),
    "sdm-growth": (
        "{:.2f} [{:.2f}, {:.2f}] times as long a step as with 4k at one head with keys of two factors, {:.2f} [{:.2f}, {:.2f}] with keys "
        "of four (SAM {:.2f} [{:.2f}, {:.2f}])",
        lambda: [*growth(SDM, 1, **sdm_alone(2)), *growth(SDM, 1, **sdm_alone(4)), *growth(SDM, 1, model="sam")],
    ),
    "sdm-four-heads": (
        "{:.2f} [{:.2f}, {:.2f}] times as long a step as with 4k with keys of two factors, {:.2f} [{:.2f}, {:.2f}] with keys of four (SAM "
        "{:.2f} [{:.2f}, {:.2f}]); and at a million slots {:.2f} [{:.2f}, {:.2f}] and {:.2f} [{:.2f}, {:.2f}] times as long as SAM",
        lambda: [
            *(number for fields in (sdm_alone(2), sdm_alone(4), {"model": "sam"}) for number in growth(SDM_ON_XEON, 4, **fields)),
            *(number for factors in (2, 4) for number in sdm_against_sam(SDM_ON_XEON, 4, factors)),
        ],
    ),
}
