"""The list of the library's cells, from which every other list of cells is derived.

Derived from it are the public names of `kerasrnn` and `kerasrnn.cells`, the type stubs, the cells
that the zoo and the recipes accept, the points of the benchmarks, the pages of the documentation,
the README's table, and the rows of the tests. Documents show the cells by family.

This module imports neither Keras nor `kerasrnn.cells`, which imports Keras: the command line lists
the cells before Keras is loaded.

    >>> from kerasrnn import catalogue
    >>> [entry.layer for entry in catalogue.CELLS if entry.in_keras]
    ['SimpleRNN', 'LSTM', 'GRU']
"""

from dataclasses import dataclass

from kerasrnn.wording import snake_case


@dataclass(frozen=True)
class Entry:
    """A cell and its layer.

    The cell and the module are named after the layer:

        >>> entry = Entry("LayerNormLSTM", "Ba, Kiros & Hinton (2016)", "a normalized LSTM")
        >>> entry.cell, entry.module
        ('LayerNormLSTMCell', 'layer_norm_lstm')
    """

    layer: str
    """Name of the layer's class."""

    paper: str
    """Authors and year of the paper, in the words of the cell's docstring."""

    summary: str
    """What distinguishes the cell, in one line."""

    in_keras: bool = False
    """Whether Keras has a layer and a cell of the same names."""

    lower_case: str | None = None
    """The layer's name in lower case, if it is not that in snake case."""

    @property
    def cell(self) -> str:
        """Name of the cell's class."""
        return f"{self.layer}Cell"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all classes of layers."""
        return (self.layer,)

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of all classes of cells."""
        return (self.cell,)

    @property
    def module(self) -> str:
        """Name of the module in `kerasrnn.cells`; also the name that the zoo and recipes accept."""
        return self.lower_case or snake_case(self.layer)


@dataclass(frozen=True)
class ConvolutionalEntry:
    """A convolutional cell and its layers, one for each number of spatial axes.

    The classes and the module are named after the family:

        >>> entry = ConvolutionalEntry("ConvLSTM", "Shi et al. (2015)", "LSTM with convolutions")
        >>> entry.layers, entry.cells[0], entry.module
        (('ConvLSTM1D', 'ConvLSTM2D', 'ConvLSTM3D'), 'ConvLSTM1DCell', 'conv_lstm')
    """

    family: str
    """Name of the layers' classes, without the number of spatial axes."""

    paper: str
    """Authors and year of the paper, in the words of the cell's docstring."""

    summary: str
    """What distinguishes the cell, in one line."""

    in_keras: bool = False
    """Whether Keras has layers of the same names."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers' classes, by the number of spatial axes."""
        return tuple(f"{self.family}{rank}D" for rank in (1, 2, 3))

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells' classes, in the same order."""
        return tuple(f"{layer}Cell" for layer in self.layers)

    @property
    def module(self) -> str:
        """Name of the module in `kerasrnn.cells`."""
        return snake_case(self.family)


@dataclass(frozen=True)
class Family:
    """Cells of one kind, which the documentation shows together."""

    name: str
    summary: str
    """What its cells have in common, in one line."""

    cells: tuple[Entry | ConvolutionalEntry, ...]


FAMILIES = (
    Family(
        "Simple networks",
        "the new state is an activation of the input and the old state, without gates",
        (
            Entry(
                "SimpleRNN",
                "Elman (1990)",
                "one tanh layer that also reads its previous output",
                in_keras=True,
            ),
            Entry(
                "IndRNN",
                "Li, Li, Cook, Zhu & Gao (2018)",
                "SimpleRNN in which each unit reads only its own state: for very long sequences "
                "and deep stacks",
            ),
            Entry(
                "FastRNN",
                "Kusupati et al. (2018)",
                "SimpleRNN with a weighted residual connection: stable gradients for two "
                "more scalars",
            ),
            Entry(
                "SCRN",
                "Mikolov et al. (2015)",
                "SimpleRNN with slow context units, averages of the past: for longer memories",
            ),
            Entry(
                "EchoState",
                "Jaeger (2001)",
                "a fixed random reservoir, from which only the next layer learns",
            ),
        ),
    ),
    Family(
        "LSTM and its variants",
        "gates write to, erase and read a cell state",
        (
            Entry(
                "LSTM",
                "Hochreiter & Schmidhuber (1997)",
                "a cell state with an input, a forget and an output gate",
                in_keras=True,
            ),
            Entry(
                "PeepholeLSTM",
                "Gers & Schmidhuber (2000)",
                "LSTM whose gates also read the cell state: for intervals, counting and rhythms",
            ),
            Entry(
                "LayerNormLSTM",
                "Ba, Kiros & Hinton (2016)",
                "LSTM with layer normalization: for stable training on long sequences and small "
                "batches",
            ),
            Entry(
                "SLSTM",
                "Beck et al. (2024)",
                "LSTM with exponential gates, a normalized cell state and heads: revises what it "
                "stored",
            ),
            Entry(
                "MultiplicativeLSTM",
                "Krause, Lu, Murray & Renals (2016)",
                "LSTM with a recurrent matrix for each input: for characters and bytes",
            ),
            Entry(
                "NAS",
                "Zoph & Le (2017)",
                "the cell that an architecture search found, with eight products: for "
                "language models",
            ),
            Entry(
                "CoupledLSTM",
                "Greff et al. (2017)",
                "LSTM whose input gate is 1 minus its forget gate: three quarters of LSTM's "
                "weights",
            ),
            Entry(
                "RAN",
                "Lee, Levy & Zettlemoyer (2017)",
                "LSTM whose cell state is a weighted sum of the inputs: for states that can be "
                "interpreted",
            ),
            Entry(
                "PhasedLSTM",
                "Neil, Pfeiffer & Liu (2016)",
                "LSTM with a time gate: for long, irregularly sampled sequences of events",
            ),
            Entry(
                "LSTMP",
                "Sak, Senior & Beaufays (2014)",
                "LSTM whose output is a narrow projection of a wide cell state: PyTorch's "
                "`proj_size`",
            ),
        ),
    ),
    Family(
        "GRU and other gated units",
        "gates mix the old state with a candidate, without a separate cell state",
        (
            Entry(
                "GRU",
                "Cho et al. (2014)",
                "an update and a reset gate, without a cell state: three quarters of LSTM's "
                "weights",
                in_keras=True,
            ),
            Entry(
                "LayerNormGRU",
                "Ba, Kiros & Hinton (2016)",
                "GRU with layer normalization: for stable training on long sequences and small "
                "batches",
            ),
            Entry(
                "MUT1",
                "Jozefowicz, Zaremba & Sutskever (2015)",
                "GRU whose update gate reads only the inputs: the best unit of a search by "
                "mutation",
            ),
            Entry(
                "MUT2",
                "Jozefowicz, Zaremba & Sutskever (2015)",
                "GRU whose reset gate adds the inputs without weights: found by mutation",
            ),
            Entry(
                "MUT3",
                "Jozefowicz, Zaremba & Sutskever (2015)",
                "GRU whose update gate reads the tanh of the state: found by mutation",
            ),
            Entry(
                "MGU",
                "Zhou, Wu, Zhang & Zhou (2016)",
                "GRU with one gate instead of two: two thirds of GRU's weights",
            ),
            Entry(
                "UGRNN",
                "Collins, Sohl-Dickstein & Sussillo (2017)",
                "SimpleRNN with one gate that retains the old state: between SimpleRNN and GRU",
            ),
            Entry(
                "MinimalRNN",
                "Chen (2017)",
                "one gate between the state and the encoded input: for states that can be "
                "interpreted",
            ),
            Entry(
                "JANET",
                "van der Westhuizen & Lasenby (2018)",
                "LSTM with the forget gate alone: for long sequences, with half of LSTM's weights",
            ),
            Entry(
                "LiGRU",
                "Ravanelli, Brakel, Omologo & Bengio (2018)",
                "GRU with relu and without the reset gate: for speech",
            ),
            Entry(
                "STAR",
                "Turkoglu, D'Aronco, Wegner & Schindler (2021)",
                "one gate, and steadier gradients from layer to layer: for deep stacks",
            ),
            Entry(
                "BRC",
                "Vecoven, Ernst & Drion (2021)",
                "units that feed their own states back and hold them without inputs: for very long "
                "memory",
            ),
            Entry(
                "NBRC",
                "Vecoven, Ernst & Drion (2021)",
                "BRC whose gates read the states of all units: for very long memory",
            ),
            Entry(
                "FastGRNN",
                "Kusupati et al. (2018)",
                "one gate that shares its kernels with the candidate, with low ranks: for "
                "microcontrollers",
            ),
            Entry(
                "GRUD",
                "Che, Purushotham, Cho, Sontag & Liu (2018)",
                "GRU for inputs with missing values (NaN), which decay to their mean, as the state "
                "decays",
            ),
            Entry(
                "RHN",
                "Zilly, Srivastava, Koutnik & Schmidhuber (2017)",
                "several gated layers within each step: for strongly nonlinear transitions",
            ),
        ),
    ),
    Family(
        "Differential equations",
        "a step approximates one of a dynamical system in continuous time",
        (
            Entry(
                "CoRNN",
                "Rusch & Mishra (2021)",
                "coupled oscillators with bounded gradients: for very long sequences",
                lower_case="cornn",
            ),
            Entry(
                "UnICORNN",
                "Rusch & Mishra (2021)",
                "independent oscillators without damping: for stacks on very long sequences",
                lower_case="unicornn",
            ),
            Entry(
                "LEM",
                "Rusch, Mishra, Erichson & Mahoney (2022)",
                "two coupled states with learned step lengths: for several time scales in long "
                "sequences",
            ),
            Entry(
                "LTC",
                "Hasani, Lechner, Amini, Rus & Grosu (2021)",
                "time constants that depend on the inputs: for small networks on irregularly "
                "sampled data",
            ),
            Entry(
                "CfC",
                "Hasani et al. (2022)",
                "LTC in closed form, a gate of the elapsed time: for irregularly sampled data",
                lower_case="cfc",
            ),
            Entry(
                "AntisymmetricRNN",
                "Chang, Chen, Haber & Chi (2019)",
                "a state that neither grows nor decays, plain or gated: for long "
                "sequences with few weights",
            ),
        ),
    ),
    Family(
        "Linear recurrences",
        "the transition depends on the input alone: only one multiplication and one addition "
        "wait for the previous step",
        (
            Entry(
                "MinGRU",
                "Feng et al. (2024)",
                "GRU whose gate and candidate read only the input: fast on long sequences",
            ),
            Entry(
                "MinLSTM",
                "Feng et al. (2024)",
                "a weighted mean of the inputs, with a forget and an input gate: fast on long "
                "sequences",
            ),
            Entry(
                "QRNN",
                "Bradbury, Merity, Xiong & Socher (2017)",
                "a convolution over the last inputs, pooled by gates: fast on long sequences",
            ),
            Entry(
                "SRU",
                "Lei, Zhang, Wang, Dai & Artzi (2018)",
                "a forget gate and a highway connection, with peepholes as an option: fast, for "
                "deep stacks",
            ),
            Entry(
                "LRU",
                "Orvieto et al. (2023)",
                "complex units that decay and rotate at constant rates: for very long memories",
            ),
            Entry(
                "S5",
                "Smith, Warrington & Linderman (2023)",
                "damped oscillators that encode the whole past, with learned time steps: for "
                "signals and very long sequences",
            ),
            Entry(
                "HGRN",
                "Qin, Yang & Zhong (2023)",
                "complex units whose forget gates have lower bounds, which rise from layer to "
                "layer: for stacks that model language",
            ),
            Entry(
                "RGLRU",
                "De et al. (2024)",
                "decays near 1 that a gate holds or releases: for language models and very long "
                "sequences",
            ),
            Entry(
                "MLSTM",
                "Beck et al. (2024)",
                "the matrix LSTM of xLSTM: a memory of keys and values, computed in chunks",
            ),
            Entry(
                "Mamba2",
                "Dao & Gu (2024)",
                "a selective state space layer: a matrix memory whose decay depends on the input, "
                "computed in chunks",
            ),
        ),
    ),
)
"""The cells that have a layer of their own, in the order of the documentation."""

CELLS = tuple(entry for family in FAMILIES for entry in family.cells)
"""All of them."""

IMAGES = Family(
    "Convolutional networks",
    "convolutions take the place of matrix products: for sequences of images, with one, two or "
    "three spatial axes",
    (
        ConvolutionalEntry(
            "ConvLSTM",
            "Shi et al. (2015)",
            "LSTM with convolutions: for radar maps, videos and other measurements on a grid",
            in_keras=True,
        ),
        ConvolutionalEntry(
            "ConvGRU",
            "Ballas, Yao, Pal & Courville (2016)",
            "GRU with convolutions: three quarters of ConvLSTM's weights and half of its state",
        ),
    ),
)
"""The cells of images. The zoo and the recipes, whose sequences are of vectors, accept none."""

CONVOLUTIONAL = IMAGES.cells

CLASSES = {
    "cell": ("Cell",),
    "convolutional": ("ConvolutionalCell",),
    "chrono": ("ChronoInitializer",),
    "exponential": ("RotationInitializer",),
    "feedback": ("FeedbackCell",),
    "chunked_cell": ("ChunkedCell",),
    "linear_cell": ("LinearCell",),
    "rnn": ("RNN",),
    "wrapping": ("WrappingCell",),
    **{entry.module: (*entry.layers, *entry.cells) for entry in (*CELLS, *CONVOLUTIONAL)},
}
"""The public classes of `kerasrnn.cells`, by module."""
