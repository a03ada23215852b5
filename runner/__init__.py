"""Serving: everything that is HTTP, process, queue and command line. May import pipelines and models."""
