"""Configs of commands, presets of training, weights that come with the library. No torch is loaded here."""
