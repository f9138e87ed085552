// A node of torch's graph whose backward is a Python function, called without the layers of `torch.autograd.Function`.
// Compiled apart from the kernels, with the headers of torch and Python (`native/node.py`).
#include <Python.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>

#include <memory>
#include <stdexcept>
#include <type_traits>

namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

// In newer versions of torch nodes count their own references, in older ones a shared_ptr does.
template <class T, class... Args>
auto make_node(Args&&... args) {
    if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, T>)
        return c10::make_intrusive<T>(std::forward<Args>(args)...);
    else
        return std::make_shared<T>(std::forward<Args>(args)...);
}

// Takes Python's lock: torch runs backward without it.
struct Lock {
    const PyGILState_STATE state = PyGILState_Ensure();
    ~Lock() { PyGILState_Release(state); }
};

// The error that Python has set, for torch to hand on to who called backward.
[[noreturn]] void raise_error_of_python() {
    python_error error;
    error.persist();
    throw std::move(error);
}

// A new reference, released at the end.
struct Owned {
    PyObject* const object;
    explicit Owned(PyObject* object) : object(object) {
        if (!object) raise_error_of_python();
    }
    Owned(const Owned&) = delete;
    ~Owned() { Py_DECREF(object); }
};

const at::Tensor& tensor_of(PyObject* object) {
    if (!THPVariable_Check(object)) throw std::runtime_error("expected a tensor");
    return THPVariable_Unpack(object);
}
const at::Tensor& tensor_at(PyObject* list, Py_ssize_t place) { return tensor_of(PyList_GET_ITEM(list, place)); }

struct FunctionNode : Node {
    PyObject* const backward;

    explicit FunctionNode(PyObject* backward) : backward(Py_NewRef(backward)) {}
    ~FunctionNode() override {
        if (!Py_IsInitialized()) return;  // the process ends
        const Lock lock;
        Py_DECREF(backward);
    }
    std::string name() const override { return "FunctionNode"; }

    variable_list apply(variable_list&& gradients) override {
        bool differentiated = false;  // whether a gradient of these gradients can be asked for
        for (const at::Tensor& gradient : gradients)
            differentiated |= at::GradMode::is_enabled() && gradient.defined() && gradient.requires_grad();
        const at::AutoGradMode off(false);
        variable_list found = call(gradients);
        return differentiated ? once_only(std::move(found)) : found;
    }

    variable_list call(const variable_list& gradients) const {
        const Lock lock;
        const Owned arguments(PyTuple_New(static_cast<Py_ssize_t>(gradients.size())));
        for (size_t i = 0; i < gradients.size(); ++i) {
            PyObject* const gradient = gradients[i].defined() ? THPVariable_Wrap(gradients[i]) : Py_NewRef(Py_None);
            PyTuple_SET_ITEM(arguments.object, static_cast<Py_ssize_t>(i), gradient);
        }
        const Owned answer(PyObject_CallObject(backward, arguments.object));
        const Owned items(PySequence_Fast(answer.object, "backward: expected a sequence of gradients"));
        variable_list found(static_cast<size_t>(num_outputs()));
        if (PySequence_Fast_GET_SIZE(items.object) != static_cast<Py_ssize_t>(found.size()))
            throw std::runtime_error("backward: expected a gradient, or None, for each input");
        for (size_t i = 0; i < found.size(); ++i) {
            PyObject* const item = PySequence_Fast_GET_ITEM(items.object, static_cast<Py_ssize_t>(i));
            if (item != Py_None) found[i] = tensor_of(item);
        }
        return found;
    }

    // Gradients whose own gradient is refused: backward is native code, which torch cannot differentiate.
    static variable_list once_only(variable_list&& found) {
        const auto refuses = make_node<torch::autograd::Error>(
            "trying to differentiate twice a function that was marked with @once_differentiable");
        for (at::Tensor& gradient : found) {
            if (!gradient.defined()) continue;
            gradient = gradient.detach();
            torch::autograd::set_history(gradient, refuses);
        }
        return std::move(found);
    }
};

}  // namespace

// The outputs of forward(), a list of new tensors, of which backward(*gradients) returns the gradients of the inputs, a
// list of tensors. None stands for a gradient that is not there. NULL: an error of Python is set.
extern "C" PyObject* mb_differentiable(PyObject* forward, PyObject* backward, PyObject* inputs) {
    HANDLE_TH_ERRORS
    const auto without_gradients = [&] {
        const at::AutoGradMode off(false);
        return PyObject_CallNoArgs(forward);
    };
    const Owned outputs(without_gradients());
    if (!PyList_Check(outputs.object) || !PyList_Check(inputs)) throw std::runtime_error("expected lists of tensors");
    torch::autograd::edge_list edges;
    bool needed = false;  // whether a gradient can be asked for
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(inputs); ++i) {
        const at::Tensor& input = tensor_at(inputs, i);
        edges.push_back(torch::autograd::impl::gradient_edge(input));
        needed = needed || input.requires_grad();
    }
    if (!needed || !at::GradMode::is_enabled()) return Py_NewRef(outputs.object);
    const auto node = make_node<FunctionNode>(backward);
    node->set_next_edges(std::move(edges));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(outputs.object); ++i)
        torch::autograd::set_history(tensor_at(outputs.object, i), node);
    return Py_NewRef(outputs.object);
    END_HANDLE_TH_ERRORS
}
