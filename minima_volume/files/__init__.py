"""Files: whole or not at all, YAML with its comments, locks, and a user's own code by import path."""
