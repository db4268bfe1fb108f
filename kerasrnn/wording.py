"""How counts and class names are written."""

import re


def counted(number: int, thing: str, several: str | None = None) -> str:
    """Write a count: `1 pair`, `2 pairs`.

    Args:
        number: the count.
        thing: the singular.
        several: the plural. Default: the singular with an s.

    Example:

        >>> counted(1, "pair"), counted(0, "pair"), counted(2, "entry", "entries")
        ('1 pair', '0 pairs', '2 entries')
    """
    return f"{number} {thing if number == 1 else several or thing + 's'}"


def snake_case(name: str) -> str:
    """Convert a class name to snake case, as Keras does for layer names.

    Example:

        >>> snake_case("SimpleRNN"), snake_case("LayerNormLSTM")
        ('simple_rnn', 'layer_norm_lstm')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
