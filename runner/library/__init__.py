"""The models on this machine: listing and removing them. No MLX, no network."""

from runner.library.installed import Installed, Library
from runner.library.scan import entry_of, installed, lookup

__all__ = ["Installed", "Library", "entry_of", "installed", "lookup"]
