"""Relabel: store an ensemble's soft labels for every augmented view of the distilled images."""
from utils.interrupts import answer_early

answer_early()
