"""The text engine: prompts to token ids, token ids to text, grammars, tool calls, embeddings."""
