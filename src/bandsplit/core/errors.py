"""Errors a user can cause and mend: each names the file or field, the value, what is legal, and the fix."""


class BandsplitError(Exception):
    """Base of all errors that are shown to users as one message, without a traceback.

    Each argument is a line: what a line breaks in itself, in a name that it holds, is not shown as another one.
    """

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(map(str, self.args))

    def __format__(self, _: str) -> str:
        """Return the lines as one, to stand in another message."""
        return "; ".join(map(str, self.args))


class ConfigError(BandsplitError):
    """A configuration is unknown, incomplete or contradictory."""


class AudioError(BandsplitError):
    """An audio file cannot be read or written, or an array is not audio."""


class DataError(BandsplitError):
    """A data set is not laid out as expected."""


class DownloadError(BandsplitError):
    """A file cannot be fetched, or what arrived is not the file that was asked for."""


class ModelFileError(BandsplitError):
    """A model file is not one, is damaged, or does not fit its own description."""


class RunError(BandsplitError):
    """A training run cannot start, continue or finish."""


class RunStopped(RunError):  # noqa: N818  not a mistake
    """A training run was told to stop; its state is saved and it can go on."""

    def __init__(self, message: str, reason: str) -> None:
        """Take the message, and the reason in a word or two."""
        super().__init__(message)
        self.reason = reason


class Cancelled(BandsplitError):  # noqa: N818  not a mistake
    """A separation was cancelled by its progress callback; nothing is left behind."""
