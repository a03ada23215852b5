"""A runner as a child process: started, watched, asked, ended. No MLX."""
