"""Written by `python -m tests.generated`."""

from .cell import Cell as Cell
from .chrono import ChronoInitializer as ChronoInitializer
from .co_rnn import CoRNN as CoRNN
from .co_rnn import CoRNNCell as CoRNNCell
from .feedback import FeedbackCell as FeedbackCell
from .gru import GRU as GRU
from .gru import GRUCell as GRUCell
from .ind_rnn import IndRNN as IndRNN
from .ind_rnn import IndRNNCell as IndRNNCell
from .layer import RNN as RNN
from .layer_norm_lstm import LayerNormLSTM as LayerNormLSTM
from .layer_norm_lstm import LayerNormLSTMCell as LayerNormLSTMCell
from .lem import LEM as LEM
from .lem import LEMCell as LEMCell
from .lstm import LSTM as LSTM
from .lstm import LSTMCell as LSTMCell
from .mgu import MGU as MGU
from .mgu import MGUCell as MGUCell
from .peephole_lstm import PeepholeLSTM as PeepholeLSTM
from .peephole_lstm import PeepholeLSTMCell as PeepholeLSTMCell
from .simple_rnn import SimpleRNN as SimpleRNN
from .simple_rnn import SimpleRNNCell as SimpleRNNCell
from .ugrnn import UGRNN as UGRNN
from .ugrnn import UGRNNCell as UGRNNCell
from .wrapping import WrappingCell as WrappingCell
