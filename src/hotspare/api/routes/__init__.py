"""The addresses, one module an area."""
