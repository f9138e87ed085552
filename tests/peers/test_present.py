"""Peers whose package is here: each answers as an independent call of its package does. Others are skipped, with what is missing.

Expected outputs are made of the package's own classes at the sizes of the case, with the parameters copied into them.
"""

import importlib
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from mann_bench.data.case import Case
from mann_bench.data.registry import PEERS, find_model
from mann_bench.measure.ledger import owners
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models import DeltaNet

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 7, "word_size": 6, "heads": 2, "reads": 3, "slots": 16}
RUN = [name for name in PEERS if name != "sparse-delta-memory"]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "fast-weight-product-key-memory": [{}, {"chunk": 3}, {"chunk": 2, "update": "gated"}],
}
each = pytest.mark.parametrize(("name", "options"), [(name, options) for name in RUN for options in OPTIONS.get(name, [{}])])


@pytest.fixture(autouse=True)
def _their_warnings():
    """What these packages warn of while they are imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make(name: str, **changes: Any) -> Any:
    """The model of a peer with random parameters; skips where its package is missing."""
    entry = find_model(name)
    if reason := entry.why_not():
        pytest.skip(reason)
    taken = {key: value for key, value in SIZES.items() if key in entry.load().__init__.__annotations__}
    torch.manual_seed(1)
    return entry.load()(**{**taken, **changes})


def state_of(model: Any, batch: int, **arguments: Any) -> Any:
    return model.initial_state(batch, **arguments) if hasattr(model, "initial_state") else None


def package(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def layers_of(model: Any) -> tuple[Any, Any]:
    """Both projections, as functions of a single step."""
    return model.project_in, model.project_out


def by_package(name: str, model: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """y [T, B, Y] by the package's own class, without our adapter."""
    width, slots, heads, reads = (SIZES[key] for key in ("word_size", "slots", "heads", "reads"))
    inner_size, chunk = heads * width, options.get("chunk", 1)
    own: Any
    if name == "product-key-memory":
        own = package("product_key_memory", "PKM")(width, heads=heads, num_keys=4, topk=reads, dim_head=3)
    elif name == "fast-weight-product-key-memory":
        own = package("fast_weight_product_key_memory", "fwPKM")(
            inner_size,
            heads=heads,
            chunk_size=chunk,
            num_memories=slots,
            dim_queries_keys=6,
            dim_values=inner_size,
            topk=reads,
            use_gdn_update=options.get("update") == "gated",
            use_boundary_embed=chunk > 1,
        )
    elif name == "titans-pytorch":
        network = package("titans_pytorch", "MemoryMLP")(width, depth=2, expansion_factor=8.2 / width)
        own = package("titans_pytorch", "NeuralMemory")(inner_size, heads=heads, dim_head=width, chunk_size=1, model=network)
        for parameter in own.memory_model_parameters:
            parameter.data = parameter.data.clone()
    elif name == "ixaxaar-dnc":
        own = package("dnc", "DNC")(5, 7, num_hidden_layers=1, nr_cells=slots, read_heads=heads, cell_size=width, batch_first=True)
        own.load_state_dict(model.layer.state_dict())
        zeros = torch.zeros(1, x.shape[1], 7)  # the package starts its controller at random
        answer = own(x.transpose(0, 1), ([(zeros, zeros)], None, None))[0]
        projected: torch.Tensor = model.project_out(answer).transpose(0, 1)
        return projected
    own.load_state_dict(model.layer.state_dict())
    project_in, project_out = layers_of(model)
    inner = torch.stack([project_in(x[:, b]) for b in range(x.shape[1])])
    answer = own(inner)
    stacked = answer[0] if isinstance(answer, tuple) else answer
    return torch.stack([project_out(row) for row in stacked], dim=1)


@each
def test_answers_as_its_package(name, options):
    """Output and all gradients, over seven steps of three elements."""
    model = make(name, **options)
    x = torch.randn(7, 3, 5, requires_grad=True)
    y, _ = model(x, state_of(model, 3))
    assert y.shape == (7, 3, 3)
    if name == "fla-gated-delta-rule":
        expected = of_delta_rule(model, x)
    else:
        with torch.random.fork_rng():
            expected = by_package(name, model, x, options)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)
    [got] = torch.autograd.grad(y.square().sum(), [x])
    [wanted] = torch.autograd.grad(expected.square().sum(), [x])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def of_delta_rule(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Step by step and head by head, by the package's function at batch 1; our own DeltaNet with the same parameters agrees."""
    rule = package("fla.ops.gated_delta_rule.naive", "naive_recurrent_gated_delta_rule")
    outputs = []
    for b in range(x.shape[1]):
        inputs = model.prepare(model.interface(x[:, b]))
        reads = [
            rule(
                inputs.queries[None, :, head : head + 1],
                inputs.keys[None, :, head : head + 1],
                inputs.values[None, :, head : head + 1],
                inputs.strength[None, :, head : head + 1],
                inputs.decay[None, :, head : head + 1],
                scale=1.0,
            )[0][0, :, 0]
            for head in range(2)
        ]
        outputs.append(model.output(torch.cat(reads, dim=-1)))
    expected = torch.stack(outputs, dim=1)
    ours = DeltaNet(input_size=5, output_size=3, word_size=6, heads=2)
    ours.load_state_dict(model.state_dict())
    torch.testing.assert_close(ours(x)[0], expected, rtol=1e-5, atol=1e-6)
    return expected


@each
def test_a_state_goes_on_where_it_was_left(name, options):
    """Two calls answer as one over the joined sequence. The DNC of `dnc` feeds reads back between calls only: it differs, as documented."""
    model = make(name, **options)
    x = torch.randn(9, 2, 5)
    with torch.no_grad():
        whole, _ = model(x, state_of(model, 2))
        first, state = model(x[:4], state_of(model, 2))
        second, _ = model(x[4:], state)
    joined = torch.cat([first, second])
    torch.testing.assert_close(joined[:4], whole[:4], rtol=1e-4, atol=1e-5)
    if name == "ixaxaar-dnc":
        assert not torch.allclose(joined[4:], whole[4:], atol=1e-5)
    else:
        torch.testing.assert_close(joined[4:], whole[4:], rtol=1e-4, atol=1e-5)


@each
def test_a_pass_changes_no_state_that_it_is_given(name, options):
    """Training calls a model with one state again and again."""
    model = make(name, **options)
    x = torch.randn(6, 2, 5)
    _, state = model(x, state_of(model, 2))
    state = state.detach() if state is not None else None
    before = [tensor.clone() for tensor in state.tensors()] if state is not None else []
    once, _ = model(x, state)
    once.sum().backward()
    again, _ = model(x, state)
    assert torch.equal(once, again)
    assert all(torch.equal(a, b) for a, b in zip(before, state.tensors() if state is not None else [], strict=True))


@pytest.mark.parametrize("name", ["fast-weight-product-key-memory", "ixaxaar-dnc", "fla-gated-delta-rule"])
def test_a_full_memory_has_rows_drawn_by_the_seed(name):
    model = make(name)
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        empty, full, same, other = (model(x, model.initial_state(2, fill=fill, seed=seed))[0] for fill, seed in DRAWS)
    assert torch.equal(full, same)
    assert not torch.equal(full, empty)
    assert not torch.equal(full, other)


DRAWS = (("empty", 0), ("full", 1), ("full", 1), ("full", 2))


@pytest.mark.parametrize("name", RUN)
def test_an_optimiser_can_change_every_parameter(name):
    """titans-pytorch makes parameters whose heads share their numbers; the adapter gives each its own."""
    model = make(name)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    before = [parameter.clone() for parameter in model.parameters()]
    y, _ = model(torch.randn(6, 2, 5), state_of(model, 2))
    y.square().sum().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) >= len(moved) - 4  # the network that titans-pytorch was made from, and unused queries of the first step


@pytest.mark.parametrize(
    ("name", "slots", "tables"),
    [
        ("product-key-memory", 4096, 1),
        ("fast-weight-product-key-memory", 4096, 2 * 3),
        ("titans-pytorch", 4096, 2 * 7),
        ("ixaxaar-dnc", 128, 2),
    ],
)
def test_ledger(name, slots, tables):
    """Its memory is counted as memory, and the prediction is within a quarter of the measured peak. Numbers: W 8, R 2, B 2.

    Rows of W numbers: a table; a table and a state of two elements, each for two heads; of a network a table and three states.
    """
    make(name)
    for mode in ("train", "infer"):
        case = Case(suite="s", model=name, slots=slots, steps=6, batch=2, word_size=8, heads=2, hidden=20, reads=4, mode=mode)
        workload = ModelWorkload(case)
        workload.smoke_test()
        workload.run_pass()
        workload.clear()
        held = sum(owners(workload)["memory"].values())
        rows = slots * 8 * 4
        assert tables * rows <= held < 1.01 * tables * rows + rows * (name == "ixaxaar-dnc"), mode
        predicted, measured = sum(workload.predicted_bytes(case).values()), measure_pass(workload).peak_bytes
        assert 0.75 < predicted / measured < 1.25, (mode, predicted, measured)


def test_a_type_that_a_package_does_not_compute_in():
    make("fast-weight-product-key-memory")
    assert find_model("fast-weight-product-key-memory").why_not("cpu", "float64") == (
        "fast-weight-product-key-memory computes in float32, got float64"
    )


def test_a_package_that_cannot_be_imported_says_why(monkeypatch):
    make("product-key-memory")
    monkeypatch.setitem(sys.modules, "product_key_memory", None)
    with pytest.raises(RuntimeError, match="product-key-memory cannot be imported here: ModuleNotFoundError"):
        make("product-key-memory")


@pytest.mark.parametrize("kind", ["SAM", "SDNC"])
def test_the_sparse_memories_of_dnc_do_not_run_as_they_come(kind):
    """The error that docs/peers.md quotes: without the faiss of 2018 they want a FLANN library, which the package does not bring."""
    make("ixaxaar-dnc")
    model: nn.Module = package("dnc", kind)(5, 7, num_hidden_layers=1, nr_cells=16, read_heads=2, cell_size=6, sparse_reads=3)
    with pytest.raises(ImportError, match=r"Cannot load dynamic library\. Did you compile FLANN\?"):
        model(torch.randn(2, 3, 5), (None, None, None))
