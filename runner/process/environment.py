"""The environment of a runner: the variables of ours that it needs to compute and to find files, and no secrets.

A runner processes files and requests from others, which cannot make it leak what it does not have.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

NAMES = frozenset(
    (
        # Programs, files, user and locale.
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "LOCALE_ARCHIVE"),
        *("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "CONDA_PREFIX"),
        # The linker, and the compiler and headers with which MLX compiles its kernels.
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "NIX_LD", "NIX_LD_LIBRARY_PATH"),
        *("CC", "CXX", "CPATH", "CPLUS_INCLUDE_PATH", "SDKROOT", "DEVELOPER_DIR"),
        # Folders of models.
        *("HF_HOME", "HUGGINGFACE_HUB_CACHE", "OLLAMA_MODELS"),
        # Windows needs some of these to start a program.
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "OS", "USERPROFILE", "USERNAME"),
        *("HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES"),
        *("NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"),
    )
)
PREFIXES = (
    *(
        "DIPTYCH_",
        "MLX_",
        "HF_HUB_",
        "TRANSFORMERS_",
        "TOKENIZERS_",
        "DIFFUSERS_",
        "TORCH",
        "PYTORCH_",
        "TRITON_",
        "OTEL_",
    ),
    *("PYTHON", "COV_", "COVERAGE_", "LC_", "XDG_", "DYLD_", "MALLOC_"),
    *("CUDA", "CUDNN_", "CUBLAS", "NVIDIA_", "NCCL_", "NVRTC_", "METAL_", "MTL_"),
    *("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "VECLIB_", "RAYON_"),
)
# Needed for downloads: login, proxies, and certificates.
DOWNLOAD = re.compile(
    r"HF_.*|HUGGING_?FACE_HUB_TOKEN|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(?i:(https?|all|no)_proxy)"
)
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|OTLP(_TRACES)?_HEADER)S?$")


def environment(
    key: str | None = None, base: Mapping[str, str] | None = None, *, downloads: bool = False
) -> dict[str, str]:
    """The variables of a runner whose clients need `key`. `downloads`: it has to download its model.

    They include the library folders of the CUDA wheels. The runner finds a fast BLAS by itself
    (`runner/engine/device.py`).
    """
    ours = os.environ if base is None else base
    variables = {
        name: value
        for name, value in ours.items()
        if _is_needed(name) or (downloads and DOWNLOAD.fullmatch(name))
    }
    if key is not None:
        variables["DIPTYCH_API_KEY"] = key
    folders = cuda_folders(Path(sysconfig.get_paths()["purelib"]))
    if folders:
        name = "PATH" if sys.platform == "win32" else "LD_LIBRARY_PATH"
        path = variables.get(name)
        variables[name] = os.pathsep.join([*([path] if path else []), *map(str, folders)])
    return variables


def cuda_folders(packages: Path) -> list[Path]:
    """The library folders of NVIDIA's wheels, whose packages are `nvidia/NAME/lib` (`bin` on Windows)."""
    inner = "bin" if sys.platform == "win32" else "lib"
    return sorted(folder for folder in packages.glob(f"nvidia/*/{inner}") if folder.is_dir())


def _is_needed(name: str) -> bool:
    """Some secrets, such as NVIDIA_API_KEY, have the prefix of a setting."""
    return (name in NAMES or name.startswith(PREFIXES)) and not SECRET.search(name)
