"""What selection may see of a candidate, and the sums over pairs of embeddings that criteria share."""
