"""The product's tables, their migrations, and transactions on them."""

from .engine import Record, Store, by_the_value

__all__ = ["Record", "Store", "by_the_value"]
