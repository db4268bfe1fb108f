"""Errors and warnings about data. This module imports neither Keras nor TFDS."""


class SourceError(RuntimeError):
    """A file could not be obtained, is not the pinned one, or lacks a member."""


class DatasetError(ValueError):
    """A data file violates its format. The message names file, line and what was expected."""


class DatasetWarning(UserWarning):
    """A part of a data file is ignored. The message names the file and the part."""
