"""Flagstone measured beside what people use instead. `make bench` runs it; see README.md."""
