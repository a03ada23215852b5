"""`diptych detect`: what a model is, without loading it."""

import argparse
import json
from dataclasses import asdict

from runner.inspect.detect import Component, Detection, detect
from runner.sources import ModelMode
from runner.units import show_count, show_size

MAKES = {ModelMode.TEXT: "text", ModelMode.IMAGE: "pictures"}
ENGINES = {"mlx": "mlx", "torch": "torch, by diffusers"}


def run(options: argparse.Namespace) -> int:
    detection = detect(options.model)
    print(render(detection, as_json=options.json))
    return 0 if detection.supported else 1


def render(detection: Detection, as_json: bool = False) -> str:
    """The report as text, or as JSON."""
    if as_json:
        return json.dumps(asdict(detection), indent=2, ensure_ascii=False)
    rows = [
        ("makes", MAKES[detection.mode]),
        *([("reads", "text and pictures")] if detection.sees else []),
        ("type", detection.type),
        ("supported", "yes" if detection.supported else f"no: {detection.reason}"),
        *([("engine", ENGINES[detection.engine])] if detection.engine else []),
        ("source", detection.source),
        *_size_rows(detection),
        *(("adapter", adapter) for adapter in detection.adapters),
    ]
    if detection.context_length:
        rows.append(("context", f"{detection.context_length:,} tokens"))
    width = max(len(label) for label, _ in rows)
    return "\n".join([detection.name, *(f"  {label:<{width}}  {value}" for label, value in rows)])


def _size_rows(detection: Detection) -> list[tuple[str, str]]:
    if detection.bytes is None or detection.parameters is None or detection.memory is None:
        return []
    rows = [("component", _component(part)) for part in detection.components if part.name]
    rows += [
        ("parameters", show_count(detection.parameters)),
        ("weights", f"{show_size(detection.bytes)}, {detection.quantization}"),
    ]
    memory = f"about {show_size(detection.memory)}"
    if detection.least_memory != detection.memory and detection.least_memory:
        memory += f"; {show_size(detection.least_memory)} when the text encoder does not stay"
    return [*rows, ("memory", memory)]


def _component(part: Component) -> str:
    type_name = f" {part.type}" if part.type else ""
    return f"{part.name}:{type_name}, {show_count(part.parameters)}, {show_size(part.bytes)}"
