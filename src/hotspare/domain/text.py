"""Texts that strangers may have written parts of."""

from __future__ import annotations


def plain(text: str) -> str:
    """On one line, without characters that control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
