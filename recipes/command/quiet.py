"""TensorFlow without its remarks."""

import logging
import os
import sys
import tempfile


def quietly_import_tensorflow() -> None:
    """Import TensorFlow without its remarks on oneDNN, processor flags and absent CUDA drivers.

    The first of them are written before any setting of TensorFlow's is read, so that they can only
    be held back at the file descriptor. They are shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS, of datasets not yet prepared
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except Exception:  # not Ctrl-C, which they do not explain
            remarks.seek(0)
            os.write(kept, remarks.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
