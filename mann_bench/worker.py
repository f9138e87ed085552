"""Entry point of worker processes (`python -m mann_bench.worker`). Its path is fixed: `compare` starts workers of other commits by it."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends the process: a KeyboardInterrupt in an import may come out as another error
    from mann_bench.run.worker import main

    main()
