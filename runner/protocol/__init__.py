"""The wire contract as types: requests and events, their limits, and what is said of a bad one. No MLX."""
