"""Writing: prompts to token ids, token ids to text, grammars and tool calls."""
