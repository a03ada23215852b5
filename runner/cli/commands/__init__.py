"""The commands of `diptych`, one per file, imported when called: `run(options)` returns the exit code."""
