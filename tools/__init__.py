"""Maintainers' tools; each is run by a target of the Makefile."""
