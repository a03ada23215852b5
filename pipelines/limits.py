"""How much may be asked for. Apart, so that who only reads requests needs no NumPy."""

# Sizes that are asked for are rounded to the model's multiple and held within these.
LONGEST_SIDE = 4096
MOST_PIXELS = 4 * 1024 * 1024
MOST_REFERENCES = 10
MOST_STEPS = 1000
MOST_PICTURES = 16
