"""What a measurement depends on: the device, the system, and the versions of what took part."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata

from runner.hardware import device_memory
from runner.units import show_size

PACKAGES = (
    *("diptych", "mlx", "mlx-lm", "mlx-cuda-13", "mlx-cuda-12"),
    *("torch", "diffusers", "transformers", "mflux"),
)
PRINT_DEVICE = "import json, mlx.core as mx; i = mx.device_info(); print(json.dumps([str(i.get('device_name') or i.get('architecture') or ''), mx.default_device() == mx.gpu]))"


def machine() -> dict[str, str]:
    """MLX is imported in a process of its own, since this one does not need it."""
    done = subprocess.run([sys.executable, "-c", PRINT_DEVICE], capture_output=True, text=True)
    name, gpu = json.loads(done.stdout) if done.returncode == 0 else ("unknown", False)
    memory = device_memory()
    return {
        "device": name if gpu else f"{name or platform.processor()} (no GPU)",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        + (f", {show_size(memory)}" if memory else ""),
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
