"""Recover: optimise real images against a logit teacher and the BatchNorm statistics of others."""
from utils.interrupts import answer_early

answer_early()
