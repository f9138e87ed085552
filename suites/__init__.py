"""What is measured: suites (`*.toml`), tasks, and workloads other than models."""
