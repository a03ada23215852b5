"""What a runner gets of our environment, and what it does not."""

from pathlib import Path

import pytest

from runner.process.environment import cuda_folders, environment


def test_a_runner_gets_its_own_key_and_never_ours() -> None:
    assert "DIPTYCH_API_KEY" not in environment(base={"DIPTYCH_API_KEY": "ours"})
    assert environment("its", base={"DIPTYCH_API_KEY": "ours"})["DIPTYCH_API_KEY"] == "its"


NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "XDG_CACHE_HOME": "/cache",
    "MLX_ENABLE_TF32": "0",
    "DIPTYCH_BLAS": "openblas",
    "CUDA_VISIBLE_DEVICES": "1",
    "NCCL_DEBUG": "INFO",
    "OPENBLAS_NUM_THREADS": "2",
    "HF_HUB_CACHE": "/hub",
    "TOKENIZERS_PARALLELISM": "false",
    "OLLAMA_MODELS": "/ollama",
    "PYTHONPATH": "/lib",
    "COVERAGE_PROCESS_START": "1",
    "SYSTEMROOT": "C:\\Windows",
}
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "SSH_AUTH_SOCK",
    "OPENAI_API_KEY",
    "NVIDIA_API_KEY",
    "DIPTYCH_UPLOAD_PASSWORD",
    "DATABASE_URL",
    "GITHUB_TOKEN",
)
FOR_DOWNLOADS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_ENDPOINT",
    "https_proxy",
    "NO_PROXY",
)


def test_what_it_computes_and_finds_its_files_by_is_passed_on() -> None:
    variables = environment(base={**NEEDED, "LD_LIBRARY_PATH": "/mine"})
    assert variables.items() >= NEEDED.items()
    assert variables["LD_LIBRARY_PATH"].startswith("/mine")


@pytest.mark.parametrize("downloads", [False, True])
def test_secrets_of_other_programs_are_not(downloads: bool) -> None:
    base = NEEDED | dict.fromkeys(SECRETS, "secret")
    assert "secret" not in environment(base=base, downloads=downloads).values()


def test_the_login_of_the_hub_is_passed_on_for_a_download_alone() -> None:
    base = dict.fromkeys(FOR_DOWNLOADS, "secret")
    assert "secret" not in environment(base=base).values()
    assert environment(base=base, downloads=True).items() >= base.items()


def test_the_libraries_of_the_cuda_wheels_are_found(tmp_path: Path) -> None:
    for name in ("cublas/lib", "cudnn/lib", "cudnn/include"):
        (tmp_path / "nvidia" / name).mkdir(parents=True)
    folders = [str(folder.relative_to(tmp_path)) for folder in cuda_folders(tmp_path)]
    assert folders == ["nvidia/cublas/lib", "nvidia/cudnn/lib"]
