"""Set-up, the demo, the paper's tables, SLURM: what runs the stages and shows what they made."""
from utils.interrupts import answer_early

answer_early()
