"""Reference implementations of memory-augmented neural networks. Usable alone: `from mann_bench.models import SAM`.

state = model.initial_state(batch, fill="empty", seed=0)
y, state = model(x, state)                              # x [T, B, X] -> y [T, B, Y]; None starts from an empty memory
"""

from mann_bench.models.build import build
from mann_bench.models.dam import DAM, DAMMemory
from mann_bench.models.deltanet import DeltaNet, DeltaNetMemory
from mann_bench.models.dnc import DNC, DNCMemory
from mann_bench.models.lstm import LSTM, LSTMState
from mann_bench.models.mann import MANN, DenseMANN
from mann_bench.models.ntm import NTM, NTMMemory
from mann_bench.models.pkm import PKM, PKMMemory
from mann_bench.models.sam import SAM
from mann_bench.models.sdm import SDM, SDMMemory
from mann_bench.models.sdnc import SDNC, SDNCMemory
from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.state import SAMMemory
from mann_bench.models.sparse.stepper import Stepper
from mann_bench.models.state import ControllerState, MANNState, State

__all__ = [
    "DAM",
    "DNC",
    "LSTM",
    "MANN",
    "NTM",
    "PKM",
    "SAM",
    "SDM",
    "SDNC",
    "ControllerState",
    "DAMMemory",
    "DNCMemory",
    "DeltaNet",
    "DeltaNetMemory",
    "DenseMANN",
    "LSTMState",
    "MANNState",
    "NTMMemory",
    "PKMMemory",
    "SAMMemory",
    "SDMMemory",
    "SDNCMemory",
    "SparseMemory",
    "State",
    "Stepper",
    "build",
]
