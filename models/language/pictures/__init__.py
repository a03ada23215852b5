"""Pictures in prompts: tokens that stand for their rows, and what the text network is fed in place of those."""
