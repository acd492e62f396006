"""Validate: train a student from scratch on the distilled set and measure it on real images."""
