"""The configuration: a TOML file, the environment, flags; and aliases of models."""

from runner.config.load import Config, Setting, load, model_arguments

__all__ = ["Config", "Setting", "load", "model_arguments"]
