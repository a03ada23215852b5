"""Keys and values in blocks: made once, shared by texts with the same beginning, never padded, copied or grown."""
