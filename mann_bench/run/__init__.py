"""Runs cases in worker processes: a sweep, a comparison of two sides, a search for the largest memory."""
