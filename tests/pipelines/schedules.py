"""The scheduler configs that schedules are proven over, with the shift that each is asked for."""

from typing import Any

STEPS = (1, 2, 4, 8, 9, 28, 50)

DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0}
CONFIGS: dict[str, tuple[dict[str, Any], float]] = {
    "no shift": ({"shift": 1.0}, 0.0),
    "static 3": ({"shift": 3.0, "num_train_timesteps": 1000}, 0.9),
    "static 6.5, 500 timesteps": ({"shift": 6.5, "num_train_timesteps": 500}, 0.9),
    "dynamic exponential": (DYNAMIC, 1.15),
    "dynamic exponential, named": (DYNAMIC | {"time_shift_type": "exponential"}, 0.37),
    "dynamic linear": (DYNAMIC | {"time_shift_type": "linear"}, 2.02),
    "static to a terminal": ({"shift": 3.0, "shift_terminal": 0.02}, 0.0),
    "dynamic to a terminal": (DYNAMIC | {"shift_terminal": 0.1}, 0.8),
}
