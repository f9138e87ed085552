"""Conclusions from stored results: fits, ratios, plots, claims, and the pages that show them. Nothing is measured here."""
