"""Results as a data frame, and the quantities that reports are about."""
