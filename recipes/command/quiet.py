"""TensorFlow without its remarks."""

import logging
import os

from kerasrnn.standard_error import filtered


def quietly_import_tensorflow() -> None:
    """Import TensorFlow without its remarks on oneDNN, processor flags and absent CUDA drivers.

    The first of them are written before any setting of TensorFlow's is read, so that they can only
    be held back at the file descriptor. They are shown if the import fails. Of what it and TFDS say
    later, errors alone are shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS, of datasets not yet prepared
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # on functions traced several times
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # TFDS, of servers that it asks again
    with filtered(lambda said: b""):
        import tensorflow  # noqa: F401
