"""Memories of other packages, each as a model between two projections; a package is imported only where one is built."""
