"""Crash tests use the same rig as the end-to-end tests."""

from e2e.conftest import rig_factory

__all__ = ["rig_factory"]
