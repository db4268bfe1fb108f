"""How messages say numbers of things."""


def counted(number: int, thing: str, several: str | None = None) -> str:
    """A number of things: `1 pair`, `2 pairs`.

    Args:
        number: how many.
        thing: what one is called.
        several: what more than one are called; default: with an s.

    Example:

        >>> counted(1, "pair"), counted(0, "pair"), counted(2, "entry", "entries")
        ('1 pair', '0 pairs', '2 entries')
    """
    return f"{number} {thing if number == 1 else several or thing + 's'}"
