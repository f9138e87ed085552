// The addresses of many of torch's tensors in one call, each tensor checked, by DLPack's C interface (dlpack.h, version
// 1): by Python calls a short pass spends more time on that than on a step. Twin: `layout.pack`.
#pragma once

#include <cstdint>

namespace mb {

struct DLTensor {  // as in dlpack.h
    char* data;
    int32_t device_type, device_id;
    int32_t num_dims;
    uint8_t type_code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
// What is called of Python and torch.
struct Python {
    int (*look_at)(void* object, DLTensor* out);   // of DLPack; 0, or an error of Python is set
    void* (*item_of)(void* list, intptr_t place);  // PyList_GetItem
    void* (*leave)();                              // PyEval_SaveThread: others may run
    void (*come_back)(void* left);                 // PyEval_RestoreThread
};

constexpr int64_t most_tensors = 64;
constexpr int32_t cpu_device = 1;

// What a layout says of one tensor: `dims` -1: any shape; of the `sizes` that follow, -1: any.
struct ExpectedTensor {
    int64_t type_code, bits, dims;
    const int64_t* sizes() const { return &dims + 1; }
    const ExpectedTensor* next() const {
        return reinterpret_cast<const ExpectedTensor*>(sizes() + (dims < 0 ? 0 : dims));
    }
};
struct PlacedBuffer {
    int64_t place, tensor, first_byte;
};

inline bool fits(const DLTensor& tensor, const ExpectedTensor& expected) {
    if (tensor.device_type != cpu_device) return false;
    if (tensor.type_code != expected.type_code || tensor.bits != expected.bits || tensor.lanes != 1) return false;
    if (expected.dims >= 0 && tensor.num_dims != expected.dims) return false;
    int64_t count = 1;
    bool contiguous = true;
    for (int32_t d = tensor.num_dims; d-- > 0;) {
        const int64_t size = tensor.shape[d];
        if (expected.dims >= 0 && expected.sizes()[d] >= 0 && expected.sizes()[d] != size) return false;
        if (tensor.strides && size != 1) contiguous = contiguous && tensor.strides[d] == count;
        count *= size;
    }
    return contiguous || count == 0;
}

// Put the addresses of the buffers of a layout into their places of a call structure. `list`: of Python, of as many
// tensors as the layout has. The layout: numbers of tensors and of buffers, then ExpectedTensor and PlacedBuffer of
// each. False: a tensor does not fit, or is not on the CPU.
inline bool take_tensors(const Python& python, void* list, const int64_t* layout, int64_t* places) {
    const int64_t tensors = layout[0], buffers = layout[1];
    int64_t addresses[most_tensors];
    if (tensors > most_tensors) return false;
    auto expected = reinterpret_cast<const ExpectedTensor*>(layout + 2);
    for (int64_t i = 0; i < tensors; ++i, expected = expected->next()) {
        DLTensor tensor;
        if (python.look_at(python.item_of(list, i), &tensor) != 0 || !fits(tensor, *expected)) return false;
        addresses[i] = reinterpret_cast<int64_t>(tensor.data + tensor.byte_offset);
    }
    auto buffer = reinterpret_cast<const PlacedBuffer*>(expected);
    for (int64_t i = 0; i < buffers; ++i, ++buffer)
        places[buffer->place] = addresses[buffer->tensor] + buffer->first_byte;
    return true;
}

}  // namespace mb
