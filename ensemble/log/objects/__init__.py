"""The log in an object store (docs/object-log.md). So far its protocol only: `open_log` does not reach it yet."""
