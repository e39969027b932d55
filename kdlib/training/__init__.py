"""Training: batches, the teacher's logits, checkpoints, the loop, and the sweep over all runs of a study."""
