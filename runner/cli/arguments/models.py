"""The options of the commands for installed models (list, show, pull, rm), and of config and doctor."""

from runner.cli.parser import MODEL_HELP, Commands, add_json


def add(commands: Commands) -> None:
    _add_list(commands)
    _add_show(commands)
    _add_pull(commands)
    _add_rm(commands)
    add_json(commands.add("config", "show the configuration and where each value comes from"))
    _add_doctor(commands)
    _add_completion(commands)


def _add_list(commands: Commands) -> None:
    parser = commands.add(
        "list",
        "list the models on this machine",
        "List the models in the Hugging Face cache, in the Ollama store, and in folders that have an alias.",
    )
    parser.add_argument("--names", action="store_true", help="print names only, one per line")
    parser.add_argument("--all", action="store_true", help="include models that cannot be run, and say why")
    parser.add_argument("--loras", action="store_true", help="list adapters (LoRA) instead: those in the folder `loras` of "
        "the configuration, and those of hub repositories in the cache")  # fmt: skip
    add_json(parser)


def _add_show(commands: Commands) -> None:
    parser = commands.add("show", "show what a model is, where it is stored and how it is configured")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_json(parser)


def _add_pull(commands: Commands) -> None:
    parser = commands.add(
        "pull",
        "download a model from Hugging Face",
        "Download a model from Hugging Face, or update it. An interrupted download resumes where it stopped.",
        "Qwen/Qwen3-0.6B",
        "black-forest-labs/FLUX.2-klein-4B",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a repository (owner/name or owner/name@revision), or an alias of one"
    )
    parser.add_argument("--force", action="store_true", help="download the model even if it cannot be run")
    parser.add_argument(
        "--json", action="store_true", help="print progress and result as JSON, one object per line"
    )


def _add_rm(commands: Commands) -> None:
    parser = commands.add(
        "rm",
        "remove models from this machine",
        "Remove models from the Hugging Face cache or the Ollama store. Files that other models use are kept. Folders of "
        "your own are never removed.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="+", help=MODEL_HELP)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")
    add_json(parser)


def _add_doctor(commands: Commands) -> None:
    parser = commands.add(
        "doctor",
        "check this machine and suggest fixes",
        "Check this machine: versions, device, kernels, the sample model, folders, ports and models. Takes about a minute. "
        "Exits with 1 if a check fails.",
    )
    parser.set_defaults(loads_configuration=True)
    add_json(parser)


def _add_completion(commands: Commands) -> None:
    parser = commands.add(
        "completion",
        "print a script with which a shell completes commands, options and models",
        "Print a script with which a shell completes commands, options and names of models.\n\n"
        "bash: diptych completion bash > ~/.local/share/bash-completion/completions/diptych\n"
        "zsh:  diptych completion zsh > a folder of $fpath, as _diptych\n"
        "fish: diptych completion fish > ~/.config/fish/completions/diptych.fish",
    )
    parser.set_defaults(loads_configuration=True)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
