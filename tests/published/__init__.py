"""Numbers and pages that are published in docs/, made from the committed results."""
