"""The tests of the zoo run op by op, except for those marked `traced`."""

import contextlib

import pytest

from tests.measure import op_by_op


@pytest.fixture(autouse=True)
def _op_by_op(request):
    with contextlib.nullcontext() if request.node.get_closest_marker("traced") else op_by_op():
        yield
