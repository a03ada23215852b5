"""Sequences decoded together: prompts read in chunks, a step for all rows, tokens drawn."""
