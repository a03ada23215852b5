"""The options of the commands that talk to running models: chat, ps, stop."""

from runner.cli.parser import MODEL_HELP, Commands, add_json


def add(commands: Commands) -> None:
    _add_chat(commands)
    _add_ps(commands)
    _add_stop(commands)


def _add_chat(commands: Commands) -> None:
    parser = commands.add(
        "chat",
        "chat with a language model",
        "Chat with a language model. The gateway answers if one is running; otherwise the model is loaded for this "
        "conversation. If standard input or output is not a terminal, the prompt is read from standard input and only the "
        "answer is printed.",
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help=f"{MODEL_HELP} (default: the only language model installed)"
    )
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        help="set a generation option, such as temperature=0 or num_predict=100; may be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="show the speed of every answer")
    parser.add_argument("--json", action="store_true", help="answer standard input once, as JSON")


def _add_ps(commands: Commands) -> None:
    parser = commands.add(
        "ps", "list loaded models", "List the models that the gateway has loaded, and what they are doing."
    )
    add_json(parser)


def _add_stop(commands: Commands) -> None:
    parser = commands.add(
        "stop",
        "unload models",
        "Unload models from the gateway. Requests in flight are finished first.",
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="+", help="a name that `diptych ps` shows, or an alias"
    )
    add_json(parser)
