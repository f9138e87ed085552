"""The machine: what it has, and which processors a measurement may use."""
