"""The time loop, its matrix products, its masks: the ground floor, which knows no cell by name.

    a_t = x_t W + b                 the input part: one product for all steps, outside the loop
    r_t = h_{t-1} U                 the recurrent part: one product a step
    y_t, s_t = update(a_t, r_t, s_{t-1})    pointwise

`loop.run` is the only door. Behind it stand one loop per backend (`tensorflow.py`, `jax.py`) and
the loop written out step by step (`unrolled.py`), which every backend has.
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)
