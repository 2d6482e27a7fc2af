"""The log in an object store (docs/object-log.md)."""
