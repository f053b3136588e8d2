"""From evidence to an order of candidates: rules, evaluation, bootstrap, the shift test, cross-fitting."""
