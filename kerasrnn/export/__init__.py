"""Exports to other formats, each run by its own runtime and compared with the Keras model.

>>> import keras, tempfile, kerasrnn
>>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
>>> with tempfile.TemporaryDirectory() as folder:
...     report = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
>>> report.difference <= 1e-5
True
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "keras_layers": ["from_keras", "to_keras"],
        "litert": ["to_litert"],
        "onnx": ["to_onnx"],
        "onnx_nodes": ["from_onnx"],
        "parity": ["ParityError", "Report"],
        "saved_model": ["to_saved_model"],
        "quantization": ["to_int8"],
        "streaming": ["to_step"],
        "torch_modules": ["from_torch", "to_torch"],
    },
)
