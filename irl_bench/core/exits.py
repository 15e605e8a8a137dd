"""Exit statuses of the commands, numbers of sysexits.h except for bad input."""

BAD_INPUT = 2
"""A flag or a file is wrong."""

UNWRITTEN = 74
"""A result cannot be written (EX_IOERR)."""

INTERRUPTED = 75
"""An interrupted run, with a checkpoint; the same command resumes it (EX_TEMPFAIL)."""
