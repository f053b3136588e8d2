"""The answer in words: the verdict, the explanation, the importance of hyperparameters."""
