// The block of the `cuda` build: a CUDA thread block (a multiple of 32 threads); a row is worked on by one warp.
#pragma once

namespace mb {

struct Group {
    template <class F> __device__ __forceinline__ void each(int64_t n, F f) const {
        for (int64_t i = threadIdx.x % 32; i < n; i += 32) f(i);
        __syncwarp();
    }
    template <class F> __device__ __forceinline__ Real sum(int64_t n, F f) const {
        Real total = 0;
        for (int64_t i = threadIdx.x % 32; i < n; i += 32) total += f(i);
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(0xffffffffu, total, offset);
        return total;
    }
    static constexpr int64_t unit_rows = 4;
    __device__ __forceinline__ void sum_rows(Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t rows, int64_t columns) const {
        Real sums[4] = {};
        for (int64_t k = threadIdx.x % 32; k < columns; k += 32)
            for (int q = 0; q < 4; ++q)
                if (q < rows) sums[q] += matrix[q * stride + k] * v[k];
        for (int offset = 16; offset > 0; offset /= 2)
            for (int q = 0; q < 4; ++q) sums[q] += __shfl_xor_sync(0xffffffffu, sums[q], offset);
        if (leads())
            for (int64_t q = 0; q < rows; ++q) out[q] = start[q] + sums[q];
    }
    static constexpr int64_t unit_columns = 32;  // one a lane, so that a warp's loads are one
    template <class T>
    __device__ __forceinline__ void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t columns, int64_t) const {
        each(columns, [&](int64_t j) {
            Real total = start ? start[j] : Real(0);
            for (int64_t k = 0; k < rows; ++k) total += static_cast<Real>(v[k]) * matrix[k * stride + j];
            out[j] = total;
        });
    }
    __device__ __forceinline__ bool leads() const { return threadIdx.x % 32 == 0; }
};

struct Block {
    __device__ __forceinline__ int64_t rank() const { return threadIdx.x; }
    __device__ __forceinline__ int64_t size() const { return blockDim.x; }
    __device__ __forceinline__ void sync() const { __syncthreads(); }
    template <class F> __device__ __forceinline__ void each(int64_t n, F f) const {
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) f(i);
    }
    template <class F> __device__ __forceinline__ void rows(int64_t n, F f) const {
        for (int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32) f(i, Group{});
    }
    template <class F> __device__ __forceinline__ void one(F f) const {
        if (threadIdx.x == 0) f();
    }
};

__device__ __forceinline__ bool claim(int32_t* place, int32_t expected, int32_t desired) {
    const int32_t found = atomicCAS(place, expected, desired);
    return found == expected || found == desired;
}
__device__ __forceinline__ int32_t take_number(int32_t* counter) { return atomicAdd(counter, 1); }
__device__ __forceinline__ void prefetch(const void*) {}

}  // namespace mb
