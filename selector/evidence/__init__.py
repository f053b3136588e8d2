"""What selection may see of a candidate: its evidence, the means over pairs of embeddings, the AUROC of scores."""
