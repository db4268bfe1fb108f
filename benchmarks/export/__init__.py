"""How fast exported files run, compared with Keras's exports and Keras itself."""
