"""From a toy's name to the class that draws it, the way the runner finds it."""

import pipelines
from pipelines.denoise import DenoisingPipeline
from tests.pipelines.toys import TOYS


def pipeline_class(name: str) -> type[DenoisingPipeline]:
    kind = pipelines.pipeline_class(TOYS[name].pipeline)
    assert issubclass(kind, DenoisingPipeline)
    return kind
