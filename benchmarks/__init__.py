"""Speed and memory, as ratios measured side by side in one process; each benchmark prints JSON lines."""
from utils.interrupts import answer_early

answer_early()
