"""Ollama's chat templates, which are programs in the language of Go's text/template.

lexer.py      a template's text and actions, and the words of an action
nodes.py      the nodes of a template's tree
parser.py     words to a tree
values.py     the values that a template has, and how Go writes them; printf.py
functions.py  the functions that it calls
evaluate.py   a tree and values to text
ollama.py     a chat as the values that Ollama gives a template

Imports neither MLX nor Jinja.
"""

from models.tokenizers.go_template.evaluate import Limits
from models.tokenizers.go_template.lexer import GoTemplateError
from models.tokenizers.go_template.ollama import OllamaTemplate, calls_as_json

__all__ = ["GoTemplateError", "Limits", "OllamaTemplate", "calls_as_json"]
