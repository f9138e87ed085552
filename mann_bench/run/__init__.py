"""Runs cases in worker processes: a sweep, a comparison of two checkouts, a search for the largest memory."""
