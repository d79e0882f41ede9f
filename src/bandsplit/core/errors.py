"""Errors that a user can cause and fix: each names the file or field, the value, what is legal, and the fix."""


class BandsplitError(Exception):
    """Base of all errors that users see as one message, without a traceback.

    Each argument is one line: a line break inside an argument, for example in a file name, does not start another.
    """

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(map(str, self.args))

    def __format__(self, _: str) -> str:
        """Return the lines as one, for use inside another message."""
        return "; ".join(map(str, self.args))


class ConfigError(BandsplitError):
    """A configuration is unknown, incomplete or contradictory."""


class AudioError(BandsplitError):
    """An audio file cannot be read or written, or an array is not audio."""


class OutputError(AudioError):
    """Results cannot be written, whatever the song: the disk is full or gone, or a store refuses."""


class NoRoomError(AudioError):
    """The temporary folder of a machine cannot hold a song or its stems; another machine may have more room."""


class StoreError(BandsplitError):
    """A file of a store, such as a bucket, cannot be read."""


class DataError(BandsplitError):
    """A data set is not laid out as expected."""


class DownloadError(BandsplitError):
    """A file cannot be fetched, or the server sent a different file."""


class ModelFileError(BandsplitError):
    """A file is not a model file, is damaged, or does not match its own description."""


class RunError(BandsplitError):
    """A training run cannot start, continue or finish."""


class RunStopped(RunError):  # noqa: N818  not a mistake
    """A training run was stopped on request; its state is saved and the run can be resumed."""

    def __init__(self, message: str, reason: str) -> None:
        """Store the message, and the reason in a word or two."""
        super().__init__(message)
        self.reason = reason


class Cancelled(BandsplitError):  # noqa: N818  not a mistake
    """The progress callback cancelled a separation; no files are left behind."""
