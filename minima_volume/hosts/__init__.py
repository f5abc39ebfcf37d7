"""The module that is run: a user's model as a function of its parameters and samples alone."""
