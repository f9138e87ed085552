"""Benchmarks for asv (`asv.conf.json`), which finds regressions in the history of commits. All numbers: lower is better."""
