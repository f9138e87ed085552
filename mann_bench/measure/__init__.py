"""Measures one case in one process: workload, correctness gate, time, memory, profile, and predictions of them."""
