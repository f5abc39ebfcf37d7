"""Where pieces of work are done: in this process, on others of this machine, or on a cluster."""
