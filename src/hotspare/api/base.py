"""What every input is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

PLAIN = r"^[^\x00-\x1f\x7f]*$"
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL stores no NUL in a text."""

Named = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=PLAIN)]
"""An id or a name of something."""


class Input(BaseModel):
    """A body. An unknown field is refused, and nothing is taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True)
