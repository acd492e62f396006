"""The zoo: teachers and students, their ensembles, and how teachers are trained and checked."""
from utils.interrupts import answer_early

answer_early()
