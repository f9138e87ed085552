"""`python -m mann_bench` is the command `mann-bench`."""

from mann_bench.cli import main

if __name__ == "__main__":
    main()
