"""Datasets on disk: one file a format."""
