"""Reading of the user's image files."""

from typing import TYPE_CHECKING

from kerasrnn.recipes.base.errors import DatasetError

if TYPE_CHECKING:
    import PIL.Image


def read_image(path: str) -> "PIL.Image.Image":
    """Read an image with 8 bits per channel; 16-bit images lose their lower 8 bits.

    Raises:
        DatasetError: the file cannot be read or is not an image; or its pixels are 32-bit numbers,
            whose white level is unknown. For values that are not finite, the message names the
            position.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        raise DatasetError(f"{path} cannot be read as an image.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}.") from None
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    if image.mode in ("I", "F"):
        pixels = np.asarray(image)
        if not np.isfinite(pixels).all():
            row, column = np.argwhere(~np.isfinite(pixels))[0]
            raise DatasetError(
                f"{path}, row {row + 1}, column {column + 1}: expected pixels of 8 or 16 bits; "
                f"found {pixels[row, column]}."
            )
        raise DatasetError(f"{path}: expected pixels of 8 or 16 bits; found numbers of 32 bits.")
    return image
