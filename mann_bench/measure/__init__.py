"""Measure one case in this process: workload, correctness gate, time, memory, profile; and predict time and memory."""
