"""The names of algorithms and worlds: registered ones, and `package.module:attribute` for
others."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from pathlib import Path

import envs
from envs.names import did_you_mean

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""The form of a registered name."""
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""The form of `package.module:attribute`."""
POLICY = "policy:"
"""Marks a policy among the algorithms: `policy:package.module:act`."""


def in_folder(name: str, kind: str = "") -> str:
    """Returns `module:attribute` of the Python file in the current folder, or below it, that a name
    means: `mine`, `mine.py` or `./mine.py:make`. Returns "" if there is no such file.

    The file is read and not imported. The attribute is the one that is named, else `make` or, of a
    policy, `act`; if the file defines none of them, its only public function.

    Args:
      name: the name.
      kind: "algorithm", "world" or "policy"; "": not known.
    """
    path, _, attribute = name.partition(":")
    spellings = (path,) if path.endswith(".py") else (f"{path}.py", f"{path.replace('.', '/')}.py")
    for spelling in spellings:
        try:
            file = Path(os.path.relpath(spelling)) if spelling else Path()
            parts = file.with_suffix("").parts if file.is_file() else ()
        except (OSError, ValueError):  # too long, or not a path at all
            continue
        if parts and all(part.isidentifier() for part in parts):
            return f"{'.'.join(parts)}:{_attribute(file, attribute, kind)}"
    return ""


def _attribute(file: Path, asked: str, kind: str) -> str:
    """The attribute of a Python file that `in_folder` returns."""
    usual = "act" if kind == "policy" else "make"
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):  # importing it will say what is wrong
        return asked if asked.isidentifier() else usual
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    public = [function for function in functions if not function.startswith("_")]
    names = {*functions, *(node.name for node in body if isinstance(node, ast.ClassDef))}
    for node in body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    known = next((found for found in (asked, usual) if found in names), "")
    return known or (public[0] if len(public) == 1 else usual)


def problem_with(ref: str, registry: Mapping[str, str], kind: str) -> str | None:
    """Returns what is wrong with a name, in one line.

    Returns None if the name is registered or has the form of an outside reference.

    Args:
      ref: the name.
      registry: `irl_bench.algos.ALGORITHMS` or `envs.WORLDS`.
      kind: "algorithm" or "world".
    """
    if kind == "world" and ref in envs.BROKEN:
        return envs.BROKEN[ref]
    if kind == "world" and ref.startswith(envs.PLAYGROUND):
        try:
            envs.kind(ref)
        except ValueError as error:
            return str(error)
        return None
    if ref in registry or REFERENCE.fullmatch(ref):
        return None
    here = in_folder(ref, kind)
    if ":" in ref:
        hint = f"; nearest: {here}" if here else ""
        return f"{ref!r} is not of the form package.module:attribute{hint}"
    hint = f"did you mean {here!r}?" if here else did_you_mean(ref, registry)
    return f"unknown {kind} {ref!r}; {hint}"
