"""What is measured: sweep files (`*.toml`) and the task sequences that models run on."""
