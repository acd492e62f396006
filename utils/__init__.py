"""What the stages share: config, files, data, augmentation, schedules, metrics, ranks, runtime."""
from utils.interrupts import answer_early

answer_early()
