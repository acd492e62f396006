"""Relabel: store an ensemble's soft labels for every augmented view of the distilled images."""
