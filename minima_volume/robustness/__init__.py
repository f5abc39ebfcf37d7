"""Accuracy of networks whose weights are noisy, and whether training under noise helps."""
