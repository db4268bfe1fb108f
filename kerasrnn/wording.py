"""How numbers of things and names of classes are written."""

import re


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


def snake_case(name: str) -> str:
    """A class's name as Keras writes it in the names of layers.

    Example:

        >>> snake_case("SimpleRNN"), snake_case("LayerNormLSTM")
        ('simple_rnn', 'layer_norm_lstm')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
