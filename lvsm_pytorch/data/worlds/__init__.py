"""Procedural worlds to train on: without end and without photos, each a function of its seed."""

from lvsm_pytorch.data.worlds.rendering import RenderedWorlds, render_worlds

__all__ = ['RenderedWorlds', 'render_worlds']
