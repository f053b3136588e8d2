"""Where the work is done: this process, local worker processes, threads."""
