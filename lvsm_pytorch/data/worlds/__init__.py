"""Procedural worlds for training without photos. A world is generated from its seed, so that their number is unlimited."""

from lvsm_pytorch.data.worlds.rendering import RenderedWorlds, render_worlds

__all__ = ['RenderedWorlds', 'render_worlds']
