"""How much a request may ask for. A module of its own, so that what only reads requests needs no NumPy."""

# Sizes are rounded to the model's multiple and held within these.
LONGEST_SIDE = 4096
MOST_PIXELS = 4 * 1024 * 1024
MOST_REFERENCES = 10
MOST_STEPS = 1000
MOST_PICTURES = 16
LONGEST_TEXT = 2**18  # characters
MAX_SEED = 2**64 - 1
WIDEST_FEATHER = 256
MOST_ADAPTERS = 16
MOST_BOXES = 64
ADAPTER_BYTES = 2**30  # of adapters that a model keeps after their use
LARGEST_SCALE = 100
LONGEST_STEP_CACHE = 8192
LONGEST_ADAPTER_NAME = 512
MOST_CONTROLS = 4  # ControlNets in a request
