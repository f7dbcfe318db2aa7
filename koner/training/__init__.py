"""Fine-tuning: data set, augmentation, collator, trainer, distributed processes."""
