"""Benchmarks side by side with the peers of this field: ``make bench`` or ``make bench ONLY=…``."""
