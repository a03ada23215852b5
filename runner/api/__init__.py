"""The APIs of others on top of the gateway: they translate requests and responses, nothing else. No MLX."""
