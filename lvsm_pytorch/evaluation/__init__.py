"""Evaluation of models (metrics, protocols, reports), and inspection of datasets."""
