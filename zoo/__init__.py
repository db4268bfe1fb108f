"""The zoo: one file per topology, functions that return Keras models."""
