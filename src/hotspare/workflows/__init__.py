"""Durable step lists that read like the manual; they know the port and the data plane, nothing
of any vendor and nothing of the database."""
