"""Reference implementations of memory-augmented neural networks. Usable alone: `from mann_bench.models import SAM`.

state = model.initial_state(batch, fill="empty", seed=0)
y, state = model(x, state)                              # x [T, B, X] -> y [T, B, Y]; None starts from an empty memory
"""

from mann_bench.models.lstm import LSTM, LSTMState
from mann_bench.models.mann import MANN, DenseMANN
from mann_bench.models.ntm import NTM, NTMMemory
from mann_bench.models.sam import SAM, SAMMemory
from mann_bench.models.sparse_memory import SparseMemory
from mann_bench.models.state import ControllerState, MANNState, State

__all__ = [
    "LSTM",
    "MANN",
    "NTM",
    "SAM",
    "ControllerState",
    "DenseMANN",
    "LSTMState",
    "MANNState",
    "NTMMemory",
    "SAMMemory",
    "SparseMemory",
    "State",
]
