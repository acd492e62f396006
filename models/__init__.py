"""The zoo: teachers and students, their ensembles, and how teachers are trained and checked."""
