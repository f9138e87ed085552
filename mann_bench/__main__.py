"""`python -m mann_bench` is the command `mann-bench`."""

from mann_bench.cli.app import main

if __name__ == "__main__":
    main()
