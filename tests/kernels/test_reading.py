"""`sparse_read` against its twin: reads, gradients, with and without torch's dispatcher; on the cpu and emu builds."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from tests.kernels.test_ops import arguments, close, dtypes, emulated, operator, sizes

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
__all__ = ["emulated"]  # a fixture that every test here uses by itself


@sizes
@dtypes
def test_sparse_read_and_its_gradients(size, dtype):
    batch, slots, width, heads, reads = size
    index = torch.randint(-1, slots, (batch, heads, reads))
    arguments = [torch.randn(batch, slots, width, dtype=dtype), torch.rand(batch, heads, reads, dtype=dtype)]
    results = []
    for module in (reference, ops):
        memory, weights = (argument.clone().requires_grad_() for argument in arguments)
        read = module.sparse_read(memory, index, weights)
        read.backward(torch.linspace(-1, 1, read.numel(), dtype=dtype).view_as(read))
        results.append((read.detach(), memory.grad, weights.grad))
    for expected, got in zip(*results, strict=True):
        close(got, expected, dtype)


@sizes
@pytest.mark.parametrize("wanted", ["memory", "weights", "both"])
def test_sparse_read_is_the_same_with_and_without_the_dispatcher(size, wanted):
    batch, slots, width, heads, reads = size
    index = torch.randint(-1, slots, (heads, batch, reads)).transpose(0, 1)  # not contiguous
    arguments = [torch.randn(batch, slots, width), torch.rand(reads, batch, heads).permute(1, 2, 0)]
    grad = torch.rand(batch, heads, 1).expand(-1, -1, width)
    results = []
    for function in (ops.sparse_read, operator("sparse_read")):
        memory, weights = (
            argument.detach().requires_grad_(wanted in (name, "both"))
            for name, argument in zip(("memory", "weights"), arguments, strict=True)
        )
        read = function(memory, index, weights)
        read.backward(grad)
        results.append((read.detach(), memory.grad, weights.grad))
        assert torch.equal(function(memory.detach(), index, weights.detach()), read)
    for got, expected in zip(*results, strict=True):
        assert (got is None and expected is None) or torch.equal(got, expected)


def test_sparse_read_of_bfloat16_rows_has_their_gradient():
    memory, index, weights = torch.randn(2, 13, 5).bfloat16(), torch.randint(-1, 13, (2, 3, 4)), torch.rand(2, 3, 4)
    results = []
    for module in (reference, ops):
        rows, factors = memory.clone().requires_grad_(), weights.clone().requires_grad_()
        read = module.sparse_read(rows, index, factors)
        read.sum().backward()
        assert rows.grad is not None
        results.append((read.detach(), rows.grad, factors.grad))
    assert results[0][1].dtype is results[1][1].dtype is torch.bfloat16
    for expected, got in zip(*results, strict=True):
        close(got, expected, expected.dtype)


def test_a_profiler_a_mode_and_a_transform_see_the_read():
    memory, index, weights = arguments("sparse_read")
    with torch.profiler.profile() as profile:
        ops.sparse_read(memory, index, weights.clone().requires_grad_()).sum().backward()
    seen = {event.key for event in profile.key_averages()}
    assert {"mann_bench::sparse_read", "mann_bench::sparse_read_back"} <= seen
    with FakeTensorMode() as mode:
        fake = ops.sparse_read(*(mode.from_tensor(tensor) for tensor in (memory, index, weights)))
    assert fake.shape == (2, 2, 3)
    assert ops.sparse_read(memory.to("meta"), index.to("meta"), weights.to("meta")).shape == (2, 2, 3)
    mapped = torch.func.vmap(lambda factors: ops.sparse_read(memory, index, factors))(torch.stack([weights, 2 * weights]))
    close(mapped[1], 2 * ops.sparse_read(memory, index, weights), torch.float32)


def test_what_sparse_read_has_no_derivative_of_is_an_error():
    memory, index, weights = arguments("sparse_read")
    leaf = weights.clone().requires_grad_()
    (first,) = torch.autograd.grad(ops.sparse_read(memory, index, leaf).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    with pytest.raises(ValueError, match=r"sparse_read: memory: expected a contiguous tensor, got strides"):
        ops.sparse_read(memory.transpose(0, 1).contiguous().transpose(0, 1), index, weights)


def test_sparse_read_gradcheck():
    memory = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[[0, 6, 6, -1], [1, 2, 3, 4], [0, 0, 0, 0]]]).expand(2, -1, -1)
    assert torch.autograd.gradcheck(lambda m, w: ops.sparse_read(m, index, w), (memory, weights))
