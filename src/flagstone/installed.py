"""Importing this is `flagstone.shared_memory.install()`, for what can only import."""

from flagstone.shared_memory import install

install()
