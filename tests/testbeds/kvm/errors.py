"""Errors of the test bed. Each says what is wrong and what to do about it."""

from __future__ import annotations


class TestbedError(Exception):
    """Something in the test bed failed; the message names the cause and the remedy."""

    __test__ = False  # pytest would collect a class of this name

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


class MissingPrerequisite(TestbedError):
    """The machine lacks something the test bed needs; tests skip on this one."""
