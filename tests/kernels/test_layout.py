"""How tensors fill the buffers of a call: each is checked before its address is taken."""

import pytest
import torch

from mann_bench.kernels.native import build
from mann_bench.kernels.native.arguments import SIZES, Arguments, in_order
from mann_bench.kernels.native.headers import most_tensors
from mann_bench.kernels.native.layout import Build, Layout, of_block, of_buffer, of_buffers, pack
from mann_bench.kernels.native.tensors import taker

BUILD = Build("float64", "bfloat16")
BLOCK = of_block(BUILD, {"written": (3,), "cell": (2, 2), "log_entries": (1,), "old_rows": (5,)})


@pytest.fixture(params=["one call", "call by call"], autouse=True)
def way(request, monkeypatch):
    """Addresses by DLPack's interface in one call, or by calls of each tensor: the same numbers, and the same errors."""
    if request.param == "call by call":
        monkeypatch.setattr(taker, "take", None)
    elif build.why_not() is not None:
        pytest.skip(f"no native kernels: {build.why_not()}")
    else:
        build.load()
    return request.param


def layout():
    return Layout(BUILD, [of_buffer(BUILD, "memory", (2, None, 4)), BLOCK, of_buffer(BUILD, "read_index", None)])


def tensors():
    memory = torch.zeros(2, 7, 4, dtype=torch.bfloat16)
    return [memory, torch.zeros(BLOCK.shape, dtype=torch.float64), torch.zeros(9, dtype=torch.int32)]


def test_a_block_is_aligned_and_large_enough():
    assert BLOCK.buffers == (("cell", 0), ("log_entries", 32), ("written", 40), ("old_rows", 52))
    assert BLOCK.shape == (8,)  # 62 bytes


def test_addresses_and_sizes_stand_in_their_places():
    given = tensors()
    packed = pack(layout(), given, in_order({"batch": 2, "links": 5}))
    assert (packed.batch, packed.links, packed.steps) == (2, 5, 0)
    assert packed.memory == given[0].data_ptr()
    assert packed.written == given[1].data_ptr() + 40
    assert packed.read_index == given[2].data_ptr()
    assert packed.norms == 0
    assert all(name in SIZES or getattr(packed, name) for name in ("cell", "old_rows", "log_entries"))
    assert isinstance(packed, Arguments)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (
            0,
            lambda t: t.float(),
            r"memory: expected a contiguous torch.bfloat16 tensor \[2, any, 4\] on cpu, got torch.float32 \[2, 7, 4\]",
        ),
        (0, lambda t: t[:1], r"got torch.bfloat16 \[1, 7, 4\] on cpu"),
        (0, lambda t: t[..., :3].contiguous(), r"got torch.bfloat16 \[2, 7, 3\] on cpu"),
        (0, lambda t: t[0], r"got torch.bfloat16 \[7, 4\] on cpu"),
        (0, lambda t: t.transpose(0, 1).contiguous().transpose(0, 1), "got non-contiguous torch.bfloat16"),
        (1, lambda t: t[:7], r"cell\+log_entries\+written\+old_rows: expected a contiguous torch.float64 tensor \[8\] on cpu, got"),
        (1, lambda t: t.to("meta"), "on cpu, got torch.float64 .* on meta"),
        (2, lambda t: t.long(), "read_index: expected a contiguous torch.int32 tensor on cpu, got torch.int64"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(number, change, message):
    given = tensors()
    given[number] = change(given[number])
    with pytest.raises(ValueError, match=message):
        pack(layout(), given, in_order({}))


def test_a_missing_tensor_is_refused():
    with pytest.raises(ValueError, match="expected 3 tensors, got 2"):
        pack(layout(), tensors()[:2], in_order({}))


def test_text_holds_all_of_it():
    again = Layout.parse(layout().text)
    assert (again.build, again.tensors) == (BUILD, layout().tensors)
    given = tensors()
    assert bytes(pack(again, given, in_order({}))) == bytes(pack(layout(), given, in_order({})))
    assert of_buffers(BUILD, ("memory", "norms")) is of_buffers(BUILD, ("memory", "norms"))


@pytest.mark.parametrize("number", range(8))
def test_what_fits_is_the_same_in_both_ways(number, way):
    whole = torch.zeros(4, 7, 4, dtype=torch.bfloat16)
    memory, fits = [
        (whole[2:], True),  # with an offset
        (whole[:2].requires_grad_(), True),
        (whole[:2, :, None].transpose(1, 2)[:, 0], True),
        (whole[:2, ::2], False),
        (whole[:2, :1].expand(2, 7, 4), False),
        (whole[:2, 3:3], True),  # nothing
        (whole[:2].half(), False),  # as many bits
        (torch.nn.Parameter(whole.as_strided((2, 1, 4), (4, 1000, 1))), True),  # no step along one row
    ][number]
    given = [memory, *tensors()[1:]]
    assert (layout().misfit(given) is None) == fits
    assert layout().fit(given) == (fits and way == "one call")
    if fits:
        assert pack(layout(), given, in_order({"batch": 2})).memory == memory.data_ptr()


def test_more_tensors_than_one_call_takes():
    count = most_tensors() + 1
    many = Layout(BUILD, [of_buffer(BUILD, name, (1,)) for name in ["cell"] * count])
    given = [torch.zeros(1, dtype=torch.float64) for _ in range(count)]
    assert pack(many, given, in_order({})).cell == given[-1].data_ptr()
    assert not many.fit(given)
