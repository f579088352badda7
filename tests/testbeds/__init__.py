"""Test beds: small real environments that tests start, use and remove."""
