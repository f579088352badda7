"""Crash tests use the same rig as the end-to-end tests."""

from e2e.conftest import pytest_runtest_makereport, rig_factory

__all__ = ["pytest_runtest_makereport", "rig_factory"]
