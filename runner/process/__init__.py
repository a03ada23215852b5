"""A runner as a child process, and the HTTP client for it. No MLX."""
