"""The answer in words: the verdict, the explanation, the importance of hyperparameters."""

from selector.verdict.answer import answer, explanation_of

__all__ = ["answer", "explanation_of"]
