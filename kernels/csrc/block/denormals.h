// Numbers below the normal ones (1.2e-38 in float32) count as 0 while a DenormalsAsZero lives, in its thread; then the
// thread has its own mode again. To multiply such a number takes an x86 processor more than a hundred cycles, and
// products of many weights, as in the DNC's allocation and links, are full of them. NaN and infinity keep their
// meaning. Only in the build for dense memories: those with few rows read have few such products.
#pragma once

#if defined(MB_DENSE) && defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mb {

#if defined(MB_DENSE) && defined(__SSE__)
class DenormalsAsZero {
    static constexpr unsigned results = 1u << 15, operands = 1u << 6;  // of the control register MXCSR: FTZ, DAZ
    const unsigned before = _mm_getcsr();

  public:
    DenormalsAsZero() { _mm_setcsr(before | results | operands); }
    ~DenormalsAsZero() { _mm_setcsr(before); }
    DenormalsAsZero(const DenormalsAsZero&) = delete;
    DenormalsAsZero& operator=(const DenormalsAsZero&) = delete;
};
#else
struct DenormalsAsZero {};
#endif

}  // namespace mb
