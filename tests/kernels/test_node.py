"""`differentiable`: the node in C++ and `torch.autograd.Function` do the same."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch.autograd import forward_ad

from mann_bench.kernels.native import extension, node
from mann_bench.kernels.native.node import differentiable
from mann_bench.models import SAM


@pytest.fixture(params=["node", "function"], autouse=True)
def way(request, monkeypatch):
    if request.param == "function":
        monkeypatch.setattr(node, "_compiled", lambda: None)
    elif reason := node.why_not():
        pytest.skip(reason)
    return request.param


def product(a, b, seen=None):
    """a b and a + b, and their gradients by hand."""

    def backward(of_product, of_sum):
        if seen is not None:
            seen.append((of_product, of_sum, torch.is_grad_enabled()))
        grads = [torch.zeros_like(a), torch.zeros_like(b)]
        if of_product is not None:
            grads = [grads[0] + of_product * b.detach(), grads[1] + of_product * a.detach()]
        return grads if of_sum is None else [grad + of_sum for grad in grads]

    return differentiable(lambda: [a.detach() * b.detach(), a.detach() + b.detach()], backward, [a, b])


def pair(**settings):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_(**settings) for _ in range(2)]


def test_which_way_is_taken(way):
    found = product(*pair())[0].grad_fn.name()
    assert ("FunctionNode" in found) == (way == "node")


def test_gradients_are_those_of_the_backward():
    assert torch.autograd.gradcheck(lambda a, b: tuple(product(a, b)), pair())


def test_a_gradient_that_is_not_there_is_none_and_gradients_are_off():
    seen: list[tuple[object, torch.Tensor, bool]] = []
    a, b = pair()
    product(a, b, seen)[1].sum().backward()
    ((of_product, of_sum, enabled),) = seen
    assert of_product is None
    assert of_sum.tolist() == [1, 1, 1]
    assert enabled is False
    assert a.grad.tolist() == b.grad.tolist() == [1, 1, 1]


def test_none_is_no_gradient():
    a, b = pair()
    (y,) = differentiable(lambda: [a.detach() * 2], lambda grad: [grad * 2, None], [a, b])
    y.sum().backward()
    assert a.grad.tolist() == [2, 2, 2]
    assert b.grad is None


def test_the_graph_goes_on_in_front_of_the_inputs():
    a, b = pair()
    product(a * 3, b)[0].sum().backward()
    assert torch.equal(a.grad, 3 * b.detach())


@pytest.mark.parametrize("enabled", [True, False])
def test_without_need_there_is_no_graph(enabled):
    with torch.set_grad_enabled(enabled):
        y, _ = product(*pair(requires_grad=not enabled))
    assert not y.requires_grad
    assert y.grad_fn is None


def test_forward_makes_no_graph_of_its_own():
    a, b = pair()
    (y,) = differentiable(lambda: [a * b + float(torch.is_grad_enabled())], lambda grad: [grad, None], [a, b])
    assert torch.equal(y, a.detach() * b.detach())
    y.sum().backward()
    assert a.grad.tolist() == [1, 1, 1]
    assert b.grad is None


def test_errors_of_forward_and_backward_reach_the_caller():
    class Refused(Exception):
        pass

    def refuse(*_):
        raise Refused("no")

    a, b = pair()
    with pytest.raises(Refused, match="no"):
        differentiable(refuse, lambda grad: [grad, None], [a, b])
    assert torch.is_grad_enabled()
    (y,) = differentiable(lambda: [a.detach() + 1], refuse, [a, b])
    with pytest.raises(Refused, match="no"):
        y.sum().backward()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("answer", [[], [None], ["gradient", None], 5])
def test_what_is_not_a_gradient_for_each_input_is_an_error(answer):
    a, b = pair()
    (y,) = differentiable(lambda: [a.detach() + 1], lambda grad: answer, [a, b])
    with pytest.raises((RuntimeError, TypeError)):
        y.sum().backward()


def test_a_gradient_of_another_shape_is_an_error():
    a, b = pair()
    (y,) = differentiable(lambda: [a.detach() + 1], lambda grad: [grad.new_zeros(2), None], [a, b])
    with pytest.raises(RuntimeError, match="shape"):
        y.sum().backward()


def test_it_is_differentiated_once():
    a, b = pair()
    (grad,) = torch.autograd.grad(product(a, b)[0].square().sum(), a, create_graph=True)
    assert torch.equal(grad, 2 * a.detach() * b.detach() * b.detach())
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_backward_may_run_again_while_the_graph_is_kept():
    a, b = pair()
    y = product(a, b)[0].sum()
    y.backward(retain_graph=True)
    y.backward()
    assert torch.equal(a.grad, 2 * b.detach())


def test_backward_is_released_with_the_graph():
    class Held:
        pass

    held, (a, b) = Held(), pair()
    outputs = differentiable(lambda: [a.detach() + 1], lambda grad, held=held: [grad, None], [a, b])
    seen = weakref.ref(held)
    del held
    gc.collect()
    assert seen() is not None
    del outputs
    assert seen() is None


def test_backward_runs_in_the_thread_that_asks_for_it():
    a, b = pair()
    y = product(a, b)[0].sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    assert torch.equal(a.grad, b.detach())


def test_a_transform_is_refused_as_by_a_function():
    a, b = pair(requires_grad=False)
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda a: product(a, b)[0].sum())(a)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # of torch itself
def test_a_forward_gradient_is_refused_as_by_a_function():
    a, b = pair()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode AD"):
        product(forward_ad.make_dual(a, b.detach()), b)


def test_a_machine_without_the_headers_or_a_compiler_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(node, "_load", node._load.__wrapped__)
    monkeypatch.setattr(extension, "PYTHON_HEADERS", tmp_path)
    assert "there are no headers of Python" in (node.why_not.__wrapped__() or "")
    monkeypatch.undo()
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr(node, "_load", node._load.__wrapped__)
    assert "false" in (node.why_not.__wrapped__() or "")


def test_a_pass_of_sam_has_the_gradients_of_its_reference():
    torch.manual_seed(0)
    model = SAM(input_size=3, output_size=2, hidden=5, slots=8, word_size=4, heads=2, reads=2, index="live", kernels="native").double()
    reference = copy.deepcopy(model)
    reference.kernels = "torch"
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    for each in (model, reference):
        y, state = each(x)
        (y.square().sum() + state.controller.hidden.sum()).backward()
    for own, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert own.grad is not None
        assert expected.grad is not None
        assert torch.allclose(own.grad, expected.grad, rtol=1e-9, atol=1e-12)
