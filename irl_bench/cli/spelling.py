"""How texts spell the commands: `irl-bench NAME` or `launch/NAME.py`, as the program was started.

Messages from outside this package always say `irl-bench NAME`, since a user of the Python package
has no folder `launch`.
"""

from __future__ import annotations

import re
import sys

LAUNCHED = re.compile(r"(?:python )?\blaunch/(\w+)\.py\b")
"""A program of the repository."""
INSTALLED = re.compile(
    r"(?<![\w/.-])irl-bench "
    r"(sweep|train|report|status|merge|verify|demos|demonstrator|search|render|label|bench)\b"
)
"""A subcommand of the installed program."""
PAGE = re.compile(r"\bdocs/(?:tutorials|guides|reference)/([\w-]+)\.md\b")
"""A page of the documentation, which an installed package does not contain."""
FORMER = {"expert": "demonstrator"}
"""A program's former name -> its subcommand."""


def installed() -> bool:
    """Returns whether the program was started as `irl-bench` or `python -m irl_bench`."""
    return sys.argv[0].startswith("irl-bench")


def called(text: str) -> str:
    """Returns a text in which commands are spelled as this program was called."""
    if not installed():
        return INSTALLED.sub(lambda found: f"launch/{found[1]}.py", text)
    text = LAUNCHED.sub(lambda found: f"irl-bench {FORMER.get(found[1], found[1])}", text)
    return PAGE.sub(lambda found: page(found[1]), text)


def page(name: str) -> str:
    """Returns how a text names a page of the documentation, from its file's name."""
    return f"the page '{name.replace('-', ' ').capitalize()}' of the documentation"


def name_of(command: str) -> str:
    """Returns a command's name in the report: `irl-bench NAME` or `launch/NAME.py`."""
    return f"irl-bench {command}" if installed() else f"launch/{command}.py"
