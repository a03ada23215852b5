"""Text encoders of picture models."""
