"""What suites measure that is no model: single operations and indexes."""
