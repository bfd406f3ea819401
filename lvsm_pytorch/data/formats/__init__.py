"""Readers and writers of dataset formats, one module for each format."""
