"""Which of the many cells are measured first, or more often."""

from collections.abc import Collection

from kerasrnn import catalogue


def first_of_families(layers: Collection[str]) -> tuple[str, ...]:
    """The first of these layers in each family of the catalogue."""
    found = []
    for family in catalogue.FAMILIES:
        found += [entry.layer for entry in family.cells if entry.layer in layers][:1]
    return tuple(found)
