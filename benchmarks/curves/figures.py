FIGURES = {}


def figure(t, n): ...
