"""ACME Fitness: a shop in which nobody calls anybody. Each module is one player; docs/acme.md has the whole picture."""
