"""Long random trials, run by hand; each has a short form among the tests."""
