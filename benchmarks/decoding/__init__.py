"""How fast the included model `translate` decodes, compared with loops in PyTorch and Python."""
