"""The benchmark of GPUs: layers, memory and the step of a recipe, on the GPU of this machine."""
