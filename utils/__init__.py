"""What the stages share: config, files, data, augmentation, schedules, metrics, ranks, runtime."""
