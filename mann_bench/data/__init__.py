"""What a case, a suite and a result are, and how results are stored."""
