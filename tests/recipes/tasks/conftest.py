"""Models are computed op by op: test_every_recipe.py and the tests of the zoo trace them."""

import pytest

from tests.measure import op_by_op


def pytest_itemcollected(item):
    # TensorFlow warns that input pipelines are not computed op by op.
    item.add_marker(pytest.mark.filterwarnings("ignore:Even though the .tf.config.exp:UserWarning"))


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield
