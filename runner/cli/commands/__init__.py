"""What `diptych COMMAND` does, one command a file: `run(options)` is its exit code. Imported when it is called."""
