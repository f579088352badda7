"""Moves changed blocks between NBD exports, provably, and goes on after any interruption."""
