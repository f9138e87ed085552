"""What SAM and SDNC share: the sparse memory, its rollback, and the native pass."""
