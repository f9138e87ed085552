"""Long random trials, run by hand; each has a short form among the tests. `docs/reliability.md` shows the figures of the last long run."""
