"""The APIs that `diptych serve` offers. Where two have the same path, the earlier one wins."""

from runner.api import infill, page, server_info, settings
from runner.api.anthropic import routes as anthropic
from runner.api.automatic1111 import routes as automatic1111
from runner.api.gallery import routes as gallery
from runner.api.hub import routes as hub
from runner.api.ollama import routes as ollama
from runner.api.openai import routes as openai
from runner.api.rerank import routes as rerank
from runner.api.responses import routes as responses
from runner.gateway import native
from runner.gateway.app import Api

APIS = (
    Api(native.routes),
    Api(page.routes),
    Api(gallery.routes),
    Api(hub.routes),
    Api(settings.routes),
    Api(anthropic.routes, anthropic.middleware),
    Api(openai.routes, openai.middleware),
    Api(responses.routes),
    Api(rerank.routes),
    Api(ollama.routes),
    Api(server_info.routes),
    Api(infill.routes),
    Api(automatic1111.routes),
)
