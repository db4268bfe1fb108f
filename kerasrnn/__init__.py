"""kerasrnn: the home of recurrent networks in Keras 3.

    >>> import numpy as np
    >>> import kerasrnn
    >>> y = kerasrnn.LSTM(4, return_sequences=True)(np.zeros((2, 3, 5), "float32"))
    >>> tuple(y.shape)
    (2, 3, 4)

What is public is listed once, in `__init__.pyi`, and loaded when it is first used, so that the
command line answers before Keras and its backend are imported. A saved model, though, must load
after a bare `import kerasrnn`: every class is registered with Keras as soon as Keras itself is
imported, whether before or after this package.
"""

import importlib

import lazy_loader
from wrapt import when_imported

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@when_imported("keras")
def _register_classes(_keras: object) -> None:
    # The packages below import Keras before anything of their own, so that whichever of them a
    # program imports first, none is half-imported when this runs.
    for name in __all__:
        if name[0].isupper():
            __getattr__(name)
    # Classes that a model was compiled with, and the classes of the zoo's models.
    for package in ("losses", "metrics", "zoo.translation"):
        importlib.import_module(f"{__name__}.{package}")
