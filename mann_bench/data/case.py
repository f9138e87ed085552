"""A case: one point of a benchmark. It is immutable, validated, and has an id that is the same on every machine."""

import hashlib
import json
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mann_bench.data.fields import WORD, Count, Text, Whole
from mann_bench.data.options import Options
from mann_bench.data.units import format_slots

Mode = Literal["train", "infer"]
Fill = Literal["empty", "full"]
Slots = Annotated[Count, Field(description="N: slots (words) of the memory")]
WordSize = Annotated[Count, Field(description="W: numbers in a slot")]
Heads = Annotated[Count, Field(description="R: read heads")]
Reads = Annotated[Count, Field(description="K: rows that a head of a sparse model reads")]
Hidden = Annotated[Count, Field(description="H: LSTM units of the controller")]
Batch = Annotated[Count, Field(description="B: sequences at a time")]
CURVE = ("model", "variant", "options", "kernels", "index")  # fields that distinguish the curves of a plot


class Case(BaseModel):
    """Everything that decides what is measured. Descriptions name the project's shape letters; docs/suites.md shows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: Text
    model: Text = Field(min_length=1, description="a built-in name, an entry point, or package.module:factory")
    variant: Text = Field("plain", description="plain, or what stands after the dash of a model's name, as checkpointed")
    options: Options = Field(default_factory=Options, description="arguments of the model's constructor, by name")
    kernels: Text = Field("auto", description="native, torch, or auto: native where the model chooses so")
    index: Text = Field("exact", description="how a sparse model finds rows: a name of `mann-bench list indexes`, or package.module:Class")
    slots: Slots
    word_size: WordSize = 32
    heads: Heads = 4
    reads: Reads = 4
    hidden: Hidden = 100
    batch: Batch = 1
    steps: Count = Field(10, description="T: steps of a sequence")
    input_size: int = Field(10, ge=3, lt=WORD, description="X: width of the input: data bits and two delimiter channels")
    fill: Fill = Field(
        "full",
        description="full starts from N random rows, all of them candidates of a read (the workload for claims about N); empty from zeros, "
        "where only written rows are candidates",
    )
    dtype: Literal["float32", "float64", "bfloat16"] = Field("float32", description="type of all numbers")
    device: Text = Field("cpu", description="cpu, cuda or cuda:N")
    mode: Mode = Field("train", description="train is forward and backward, infer forward alone")
    threads: Count = Field(1, description="CPU threads that the case may use")
    seed: Whole = Field(0, description="seed of parameters, memory and inputs")

    @property
    def output_size(self) -> int:
        """Y: the data bits of the input, without its two delimiter channels."""
        return self.input_size - 2

    @property
    def case_id(self) -> str:
        """Hash of all fields: the same case has the same id on every machine. Without options it has the id from before there were any."""
        return stable_id(self, without=() if self.options else ("options",))

    @property
    def name(self) -> str:
        """Model and variant: `ntm-checkpointed`."""
        return full_name(self.model, self.variant)

    @property
    def title(self) -> str:
        """Model, variant and options: `sam erase=gated`."""
        return f"{self.name} {self.options}".rstrip()

    @property
    def label(self) -> str:
        """Short description: `sam lsh N=1M train`, `sam erase=gated lsh N=1M train`."""
        others = ("" if self.kernels == "auto" else f" {self.kernels}") + ("" if self.index == "exact" else f" {self.index}")
        return f"{self.title}{others} N={format_slots(self.slots)} {self.mode}"


def full_name(model: str, variant: str) -> str:
    """Model and variant as the command line takes them: `ntm-checkpointed`; a plain model is its own name."""
    return model if variant == "plain" else f"{model}-{variant}"


def stable_id(fields: BaseModel, without: Collection[str] = ()) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of all fields, by the names they are stored with, but those in `without`."""
    canonical = json.dumps(fields.model_dump(exclude=set(without), by_alias=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
