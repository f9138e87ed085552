"""Sparse memory operations: plain torch references, and (on top of them) native CPU and CUDA kernels. Usable without the harness."""
