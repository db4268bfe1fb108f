"""What can be wrong with data. Nothing here imports Keras or TFDS."""


class SourceError(RuntimeError):
    """A file could not be had, is not the pinned one, or lacks a member."""


class DatasetError(ValueError):
    """A data file breaks its format. The message names the file, the line and what it expected."""


class DatasetWarning(UserWarning):
    """A part of a data file is not read. The message names the file and the part."""
