"""What this machine can do, and whether measurements on it can be trusted."""
