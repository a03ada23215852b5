"""The runner's HTTP server: one model, its endpoints, and the life of its process."""
