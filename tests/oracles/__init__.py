"""Independent oracles: every cell written a second time, in NumPy, from its equations.

Nothing here imports Keras or `kerasrnn`, and no product is fused: an oracle that shared the
library's shortcuts would share its mistakes. The labels in the comments, (L5) or (G11), are the
equations of `docs/bptt.md` and `docs/cells.md`.

Each cell's module has three functions:

- `step(x, states, weights) -> (output, new_states)`: one step forward;
- `step_backward(x, states, weights, d_output, d_new_states) -> (dx, d_states, d_weights)`: the
  adjoint of that step;
- `backward(x, states, weights, d_outputs, d_final_states)`: the adjoint of the whole sequence.

`loop.run` and `loop.run_backward` carry them over time.
"""
