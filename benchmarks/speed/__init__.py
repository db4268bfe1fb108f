"""How fast the layers train and predict, compared with Keras and PyTorch."""
