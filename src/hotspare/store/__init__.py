"""The product's tables, their migrations, and transactions on them."""

from .engine import Record, Store

__all__ = ["Record", "Store"]
