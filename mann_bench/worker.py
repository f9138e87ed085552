"""Entry point of worker processes (`python -m mann_bench.worker`). Its path is fixed: `compare` starts workers of other commits by it."""

from mann_bench.run.worker import main

if __name__ == "__main__":
    main()
