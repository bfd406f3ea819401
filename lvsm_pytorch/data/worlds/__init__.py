"""Procedural worlds to train on: nobody's photos, endless, each a function of its seed alone."""

from lvsm_pytorch.data.worlds.rendering import RenderedWorlds, render_worlds

__all__ = ['RenderedWorlds', 'render_worlds']
