"""Callbacks of `nnxp.train`: what looks at a training after every epoch, and may end it.

A callback is a function of the network and the history, or an object with the methods of
`Callback`. To reduce the learning rate on a plateau, give `train` the schedule "plateau",
`nnxp.schedules.Plateau`.
"""

from nnxp.callbacks.callback import Callback, running
from nnxp.callbacks.csv_log import CSVLog
from nnxp.callbacks.early_stopping import EarlyStopping
from nnxp.callbacks.model_checkpoint import ModelCheckpoint
from nnxp.callbacks.tensorboard_log import TensorBoardLog

__all__ = ["CSVLog", "Callback", "EarlyStopping", "ModelCheckpoint", "TensorBoardLog", "running"]
