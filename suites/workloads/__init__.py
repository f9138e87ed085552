"""Workloads other than models: single ops and indexes."""
