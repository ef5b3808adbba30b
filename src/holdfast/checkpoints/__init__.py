"""State that a body saves for its later attempts."""

from holdfast.checkpoints.checkpoint import Checkpoint, Keeper
from holdfast.checkpoints.frameworks import latest_checkpoint
from holdfast.checkpoints.generations import Generation, newest_generation, newest_of_version

__all__ = ["Checkpoint", "Generation", "Keeper", "latest_checkpoint", "newest_generation", "newest_of_version"]
