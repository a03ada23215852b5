"""diptych chat."""

from typing import TYPE_CHECKING

from runner.arguments import MODEL_HELP, add_command

if TYPE_CHECKING:
    from runner.arguments import Commands


def add(commands: "Commands") -> None:
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
