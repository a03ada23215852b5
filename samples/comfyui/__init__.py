"""Nodes for ComfyUI that ask a Diptych gateway: text, a picture, an edited picture.

Copy this folder to ComfyUI's custom_nodes. It needs nothing beside what ComfyUI has.
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
