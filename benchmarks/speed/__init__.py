"""How long the parts take, each against the usual way."""
