"""Griffe extension: keeps units in docstrings from being read as links.

Docstrings here write shapes and units as `float32[K] [1/m]`, which in Markdown is a link to a
reference called `1/m`.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Units(griffe.Extension):
    """Escapes the bracket of a unit that follows a shape."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every object that is loaded."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = re.sub(r"\](\s?)\[(?=[A-Za-z1])", r"]\1\\[", obj.docstring.value)
