"""The configuration: a TOML file, environment variables and flags; and the aliases of models."""

from runner.config.load import Config, Setting, load, model_arguments

__all__ = ["Config", "Setting", "load", "model_arguments"]
