"""Commands about models that run: chat, ps, stop."""

from typing import TYPE_CHECKING

from runner.cli.parser import MODEL_HELP, add_command, add_json

if TYPE_CHECKING:
    from runner.cli.parser import Commands


def add(commands: "Commands") -> None:
    _add_chat(commands)
    _add_ps(commands)
    _add_stop(commands)


def _add_chat(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "chat",
        "talk with a language model",
        "Talk with a language model: by the gateway when it is running, else by a runner for this conversation. Where "
        "stdin or stdout is no terminal, the prompt is read from stdin and the answer is all that is printed.",
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help=f"{MODEL_HELP} (default: the only one there is)"
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before everything")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        help="an option, such as temperature=0 or num_predict=100",
    )
    parser.add_argument("--verbose", action="store_true", help="say how fast each answer was")
    parser.add_argument("--json", action="store_true", help="one answer to what stdin says, as JSON")


def _add_ps(commands: "Commands") -> None:
    parser = add_command(commands, "ps", "list the models that the gateway has loaded")
    add_json(parser)


def _add_stop(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "stop",
        "end models that the gateway has loaded",
        "End models that the gateway has loaded: at once when they are idle, else when their requests are done.",
    )
    parser.add_argument("model", metavar="M", nargs="+", help="as `diptych ps` names it, or an alias")
    add_json(parser)
