"""Measures and plots how gradients flow through recurrent layers.

>>> import keras, numpy as np
>>> from kerasrnn import SimpleRNN, diagnostics
>>> model = keras.Sequential(
...     [keras.Input((None, 2)), SimpleRNN(16, name="rnn"), keras.layers.Dense(1)])
>>> x, y = np.ones((4, 30, 2), "float32"), np.ones((4, 1), "float32")
>>> diagnosis = diagnostics.diagnose(model, x, y, loss="mse")
>>> norms = diagnosis.layers["rnn"].states["h"].gradient_norms
>>> len(norms), bool(norms[29] < norms[0])      # dL/dh_1 is smaller than dL/dh_30
(30, True)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["compare"],
        "diagnosis": ["Diagnosis"],
        "gradient_flow": ["GradientFlow"],
        "layer_diagnosis": [
            "GateDiagnosis",
            "KernelDiagnosis",
            "LayerDiagnosis",
            "StateDiagnosis",
        ],
        "mask_flow": ["MaskFlow", "MaskedLayer", "masks"],
        "measurement": ["diagnose"],
    },
)
