"""State that a body saves for its later attempts."""

from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.frameworks import latest_checkpoint
from holdfast.checkpoints.generations import NAMES_BLOBS, Generation, blobs_named, newest_generation, newest_of_version, unsealed
from holdfast.checkpoints.keeper import Keeper

__all__ = [
    "NAMES_BLOBS",
    "Checkpoint",
    "Generation",
    "Keeper",
    "blobs_named",
    "latest_checkpoint",
    "newest_generation",
    "newest_of_version",
    "unsealed",
]
