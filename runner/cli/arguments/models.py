"""Commands about the models on this machine: list, show, pull, rm, config; and about the machine: doctor."""

from typing import TYPE_CHECKING

from runner.cli.parser import MODEL_HELP, add_command, add_json

if TYPE_CHECKING:
    from runner.cli.parser import Commands


def add(commands: "Commands") -> None:
    _add_list(commands)
    _add_show(commands)
    _add_pull(commands)
    _add_rm(commands)
    _add_config(commands)
    _add_doctor(commands)


def _add_list(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "list",
        "list the models on this machine",
        "List the models in the hub's cache, in the Ollama store, and in folders that aliases name.",
    )
    parser.add_argument("--all", action="store_true", help="also those that cannot be run, and why")
    add_json(parser)


def _add_show(commands: "Commands") -> None:
    parser = add_command(commands, "show", "say what a model is, where it is and how it is set up")
    parser.add_argument("model", metavar="M", help=MODEL_HELP)
    add_json(parser)


def _add_pull(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "pull",
        "bring a model from the hub to this machine",
        "Bring a model from the hub to this machine, or what has changed of it. What was cut is continued.",
    )
    parser.add_argument(
        "model", metavar="M", help="a hub repo: owner/name or owner/name@revision, or an alias of one"
    )
    parser.add_argument("--force", action="store_true", help="also a model that cannot be run")
    parser.add_argument("--json", action="store_true", help="progress and result as JSON lines")


def _add_rm(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "rm",
        "remove models from this machine",
        "Remove models from the hub's cache or the Ollama store. Files that other models share stay; folders of your "
        "own are never removed.",
    )
    parser.add_argument("model", metavar="M", nargs="+", help=MODEL_HELP)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_json(parser)


def _add_config(commands: "Commands") -> None:
    parser = add_command(
        commands, "config", "print the configuration in force and where each value came from"
    )
    add_json(parser)


def _add_doctor(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "doctor",
        "look over this machine and say what to do about what is wrong",
        "Look over this machine: versions, device, kernels, the sample model, folders, ports, models. Takes about a "
        "minute. The exit code is 1 when something fails.",
    )
    parser.set_defaults(loads_configuration=True)
    add_json(parser)
