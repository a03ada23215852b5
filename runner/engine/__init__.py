"""One GPU thread and its queue of jobs."""
