"""Tokens drafted ahead of a language model: where drafts come from, and how many are worth their price."""
