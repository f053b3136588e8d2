"""The candidates of a run: what they are, how they are trained, and the run folder that keeps them."""
