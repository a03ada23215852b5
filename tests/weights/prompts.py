"""Twenty requests to a small chat model: its template, turns, scripts, emoji, a long text, and prompts without a template."""

from typing import Any

LONG = " ".join(f"Item {number} of the list is worth {number * 7 % 100} points." for number in range(1, 106))


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


CHATS: list[list[dict[str, str]]] = [
    [user("What is the capital of France?")],
    [user("Why is the sea blue?")],
    [user("Write a haiku about rain.")],
    [user("Count from one to ten.")],
    [user("Translate to French: good morning")],
    [user("What does 🌊🏄‍♀️ mean? Answer with emoji: 😀")],
    [user("日本の首都はどこですか。")],
    [user("def fib(n):\n    # go on\n")],
    [user("  Two  spaces\n\n\nand\tbreaks ")],
    [system("You are a pirate. Answer briefly."), user("Who are you?")],
    [system("Answer with one word."), user("The opposite of hot?")],
    [user("My name is Ada."), assistant("Hello, Ada!"), user("What is my name?")],
    [
        user("Name a colour."),
        assistant("Red."),
        user("Another one."),
        assistant("Blue."),
        user("And one more."),
    ],
    [user("Tell me of the sea."), assistant("The sea is")],
    [user("Was ist größer, Zürich oder Köln?")],
    [user(f"{LONG}\n\nHow many points is item 42 worth?")],
]
RAW = [
    "The capital of France is Paris.",
    "Once upon a time, there was a little",
    "import numpy as np\n\ndef mean(",
    "1, 2, 3, 4, 5,",
]


def requests(tokens: int) -> list[dict[str, Any]]:
    options = {"num_predict": tokens}
    return [
        *({"messages": messages, "options": options} for messages in CHATS),
        *({"prompt": prompt, "options": options} for prompt in RAW),
    ]
