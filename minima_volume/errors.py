"""The errors a user can cause, each with one message that names the thing, its value and the way out."""


class MinimaVolumeError(Exception):
    """Base of every error that the command line prints on one line instead of a traceback."""


class ConfigError(MinimaVolumeError, ValueError):
    """config.yaml (or an argument) says something that is not allowed."""


class DataError(MinimaVolumeError):
    """Samples are missing, unreadable or do not fit the settings."""


class MissingStageError(MinimaVolumeError):
    """A stage needs the files of an earlier stage, and they are not there."""


class StaleError(MinimaVolumeError):
    """A file was made from another model, other data or other settings than those at hand."""


class DamagedFileError(MinimaVolumeError):
    """A file exists but cannot be read: truncated, not of its kind, or unsafe to open."""


class BoundaryError(MinimaVolumeError):
    """A path leads out of the folder that work was given: through a link, by its name, or because the folder is gone."""


class UnboundedError(MinimaVolumeError):
    """A region reaches further out than was looked, so what was asked for is infinite or unknown."""
