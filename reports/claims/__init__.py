"""The claims of the paper against results."""
