"""The estimated cost of training a large translation model, and the scaling measured here."""
