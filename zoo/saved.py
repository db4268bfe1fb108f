"""Trained models that are part of the library."""

import difflib
import textwrap
from importlib import resources
from pathlib import Path
from typing import Any

import keras

from kerasrnn.files import sha256
from kerasrnn.zoo import model

SUMS = "SHA256SUMS"
MODEL = "model.keras"


class SavedModelError(RuntimeError):
    """A model that is part of the library is missing or damaged."""


def trained() -> list[str]:
    """The names of the available trained models, which are those of their recipes.

    >>> from kerasrnn import zoo
    >>> "g2p" in zoo.trained()
    True
    """
    return sorted(path.parent.name for path in _all().glob(f"*/{SUMS}"))


def load(name: str) -> keras.Model:
    """Load a trained model.

    Its card, `CARD.md` in its `folder`, describes its inputs, its outputs and its quality. The file
    is verified by its hash, and loaded in Keras's safe mode.

    Args:
        name: one of `trained()`: a recipe's name.

    Returns:
        A `zoo.Model`, or a `zoo.Translator`, which validate their inputs.

    Raises:
        ValueError: `name` is not the name of a trained model.
        SavedModelError: its file is missing or damaged, or requires a package that is not
            installed, such as sentencepiece for "translate".

    Example:

        >>> from kerasrnn import zoo
        >>> speaker = zoo.load("g2p")
        >>> speaker.translate(["keras"])
        ['K EH R AH Z']
    """
    return read(folder(name) / MODEL)


def read(path: Path) -> keras.Model:
    """Load a Keras file in safe mode; a functional model becomes a `Model`.

    Raises:
        SavedModelError: it cannot be read, is damaged, or requires a package that is not installed.
    """
    import kerasrnn  # noqa: F401  (registers the layers)

    try:
        with path.open("rb"):
            pass  # Keras reports an unreadable file as missing
    except OSError as error:
        raise SavedModelError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return model.of(keras.saving.load_model(path, safe_mode=True))
    except Exception as error:  # zip, HDF5, JSON and Keras each raise different errors
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ModuleNotFoundError):
                raise SavedModelError(
                    f"{path} needs {cause.name or cause}, which is not installed."
                ) from error
            cause = cause.__cause__ or cause.__context__
        # Keras's message includes a layer's entire configuration, which may contain a vocabulary.
        reason = textwrap.shorten(str(error), 1000)
        raise SavedModelError(
            f"{path} is damaged or was saved by another version: {reason}"
        ) from error


def folder(name: str) -> Path:
    """The folder of a trained model, with its ONNX files and its card; every file is verified.

    Args:
        name: one of `trained()`.

    Raises:
        ValueError: `name` is not the name of a trained model.
        SavedModelError: a file is missing or damaged.

    Example:

        >>> from kerasrnn import zoo
        >>> (zoo.folder("g2p") / "CARD.md").is_file()
        True
    """
    place = _all() / _known(name)
    for line in (place / SUMS).read_text("utf-8").splitlines():
        expected, _, file = line.partition("  ")
        try:
            digest = sha256(place / file)
        except OSError as error:
            raise SavedModelError(f"{place / file} cannot be read: {error.strerror}.") from None
        if digest != expected:
            raise SavedModelError(
                f"{place / file} is damaged: expected the SHA-256 {expected}, found {digest}; "
                "install kerasrnn again, or restore the file from the repository."
            )
    return place


def _known(name: Any) -> str:
    names = trained()
    if isinstance(name, str) and name in names:
        return name
    hint = ""
    if isinstance(name, (str, Path)) and name and (Path(name).suffix or Path(name).exists()):
        hint = " To load your own file, use keras.saving.load_model, after `import kerasrnn`."
    elif isinstance(name, str):
        close = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"name={name!r}: expected the name of a trained model: {', '.join(names) or 'none'}.{hint}"
    )


def _all() -> Path:
    """The folder of all models, in a checkout and in an installed package."""
    return Path(str(resources.files("kerasrnn.saved_models")))
