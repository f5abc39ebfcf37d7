"""What the config files may say, and the errors when they say something else."""
