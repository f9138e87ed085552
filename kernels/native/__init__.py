"""Compiles, loads and calls the native kernels: the CPU library, the CUDA cubins, and the torch operators over them."""
