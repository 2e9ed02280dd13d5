"""Errors that end a command, and the exit codes they stand for."""

OK = 0
NO = 1
USAGE = 2
BUG = 3
INTERRUPTED = 130


class FlywheelError(Exception):
    """Something the user can mend; its one-line message says what and how. Ends a command with exit code 2."""


class BadInputError(FlywheelError):
    """A file, folder, flag or value that cannot be used."""


class ModelError(FlywheelError):
    """The language model is missing, refuses the key, or does not answer."""


class LockedError(FlywheelError):
    """Another process holds the lock that this command needs."""


class DamagedError(FlywheelError):
    """Stored state that does not match its own checksums or format."""
