"""The command line's options, a file for each group of commands."""
