"""Trained models: `kerasrnn.zoo.load` reads them, and says of each file whether it is as it was."""
