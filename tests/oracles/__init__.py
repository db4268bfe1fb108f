"""Independent oracles: every cell written a second time, in NumPy, from its equations.

Nothing here imports Keras or `kerasrnn`, and no product is fused: an oracle that shared the
library's shortcuts would share its mistakes.

Each cell's module has the name of the cell's module in `kerasrnn.cells`, and:

- `step(x, states, weights) -> (output, new_states)`: one step forward. Keyword arguments are the
  arguments of the cell's constructor that it needs, with the same names;
- `VARIANTS` (optional): arguments of the constructor with which the tests run the cell. Default:
  with and without a bias;
- `STEADY` (optional): arguments under which rounding errors stay small;
- `step_backward(x, states, weights, d_output, d_new_states) -> (dx, d_states, d_weights)`: the
  adjoint of a step, only for cells whose adjoint is derived manually. The labels in the comments,
  (L5) or (G11), are the equations of `docs/bptt.md`.

`loop.run` and `loop.run_backward` carry them over time. `complex_step.backward` differentiates the
loop of any step.
"""

COMMON = (
    {},
    {"use_bias": False},
    {"activation": "relu"},
    {"activation": None, "bias_initializer": "random_normal"},
)
"""The variants of the cells that Keras has too."""
