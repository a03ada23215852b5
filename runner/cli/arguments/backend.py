"""The options of the commands that talk to running models: chat, ps, stop."""

from runner.cli.parser import MODEL_HELP, Commands, add_json


def add(commands: Commands) -> None:
    _add_run(commands)
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
        "Qwen/Qwen3-0.6B",
        'Qwen/Qwen3-0.6B --system "Answer in one sentence." --set temperature=0',
        "Qwen/Qwen3-0.6B < question.txt",
    )
    add = parser.add_argument
    add(
        "model", metavar="MODEL", nargs="?", help=f"{MODEL_HELP} (default: the only language model installed)"
    )
    add("--system", metavar="TEXT", help="system prompt")
    add(
        "--image",
        metavar="PATH",
        action="append",
        default=[],
        help="picture that goes with the first prompt; may be repeated",
    )
    add("--set", metavar="NAME=VALUE", action="append", help="set a generation option, such as temperature=0 or "
        "num_predict=100; may be repeated")  # fmt: skip
    add("--verbose", action="store_true", help="show the speed of every answer")
    add("--json", action="store_true", help="answer standard input once, as JSON")


def _add_run(commands: Commands) -> None:
    parser = commands.add(
        "run",
        "chat or draw with a model, whichever it does",
        "Chat with a language model, or draw with a picture model. With a prompt (also on standard input) once, otherwise until "
        "Ctrl-D. `diptych chat` and `diptych draw` have more options.",
        "Qwen/Qwen3-0.6B",
        'Qwen/Qwen3-0.6B "Why is the sky blue?"',
        'black-forest-labs/FLUX.2-klein-4B "a lighthouse in the rain"',
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("prompt", metavar="PROMPT", nargs="*", help="what to answer or to draw")
    parser.add_argument("--verbose", action="store_true", help="show the speed of every answer")
    parser.set_defaults(system=None, set=None, json=False)


def _add_ps(commands: Commands) -> None:
    about = "List the models that the gateway has loaded, and what they are doing."
    add_json(commands.add("ps", "list loaded models", about))


def _add_stop(commands: Commands) -> None:
    about = "Unload models from the gateway. Requests in flight are finished first."
    parser = commands.add("stop", "unload models", about)
    parser.add_argument(
        "model", metavar="MODEL", nargs="+", help="a name that `diptych ps` shows, or an alias"
    )
    add_json(parser)
