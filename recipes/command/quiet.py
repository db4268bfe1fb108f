"""TensorFlow without its log messages."""

import logging
import os

from kerasrnn.standard_error import filtered


def quietly_import_tensorflow() -> None:
    """Import TensorFlow without its messages about oneDNN, CPU flags and missing CUDA drivers.

    TensorFlow writes the first messages before it reads any of its settings, so they can only be
    filtered at the file descriptor. They are shown if the import fails. Later messages of
    TensorFlow and TFDS are shown only if they are errors.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS, about unprepared datasets
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # about retraced functions
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # TFDS, about retries
    with filtered(lambda output: b""):
        import tensorflow  # noqa: F401
