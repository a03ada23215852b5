"""Prompt to picture, one file a family. May import models.

PIPELINES is how a family is registered: the class that a checkpoint's model_index.json names, and where its pipeline
lives. Strings only, so that looking a class up imports nothing.
"""

PIPELINES: dict[str, str] = {
    "Flux2KleinPipeline": "pipelines.flux2:Flux2Klein",
}
