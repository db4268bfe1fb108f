"""Every attention, with the options that change its equations."""

import kerasrnn

ATTENTIONS = {
    "bahdanau": lambda **kw: kerasrnn.BahdanauAttention(4, **kw),
    "bahdanau, normalized": lambda **kw: kerasrnn.BahdanauAttention(
        4, normalize=True, use_bias=True, **kw
    ),
    "dot": lambda **kw: kerasrnn.LuongAttention("dot", **kw),
    "scaled dot": lambda **kw: kerasrnn.LuongAttention("scaled_dot", **kw),
    "general": lambda **kw: kerasrnn.LuongAttention("general", **kw),
    "concat": lambda **kw: kerasrnn.LuongAttention("concat", units=4, **kw),
    "local": lambda **kw: kerasrnn.LuongAttention("general", window=2, **kw),
    "local concat": lambda **kw: kerasrnn.LuongAttention("concat", units=4, window=1, **kw),
    "location": lambda **kw: kerasrnn.LocationSensitiveAttention(4, filters=2, kernel_size=3, **kw),
    "location, cumulative": lambda **kw: kerasrnn.LocationSensitiveAttention(
        4, filters=2, kernel_size=5, cumulative=True, normalize=True, **kw
    ),
    "coverage": lambda **kw: kerasrnn.CoverageAttention(4, **kw),
    "sparsemax": lambda **kw: kerasrnn.BahdanauAttention(4, normalization="sparsemax", **kw),
    "entmax": lambda **kw: kerasrnn.LuongAttention("general", normalization="entmax", **kw),
    "local entmax": lambda **kw: kerasrnn.LuongAttention(
        "dot", window=2, normalization="entmax", **kw
    ),
    "coverage, sparsemax": lambda **kw: kerasrnn.CoverageAttention(
        4, normalization="sparsemax", **kw
    ),
    "monotonic": lambda **kw: kerasrnn.MonotonicAttention(
        kerasrnn.BahdanauAttention(4, normalize=True, **kw), bias=-0.5, **kw
    ),
    "monotonic, hard": lambda **kw: kerasrnn.MonotonicAttention(
        kerasrnn.LuongAttention("general", **kw), hard=True, **kw
    ),
}
