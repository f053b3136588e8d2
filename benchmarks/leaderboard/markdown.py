"""Tables as Markdown, for results that are printed or quoted by documents."""

import re

import pandas as pd


def markdown_table(table: pd.DataFrame) -> str:
    """A table of text as Markdown, its index left out.

    Cells are not padded to the width of their column, so that a row stays the same when another one changes, and
    documents can quote it word for word.

    Args:
        table: (n,k) text, in which every ``|`` is escaped.

    Returns:
        Lines joined by newlines, the first column aligned to the left and the others to the right.
    """
    align = ("left", *["right"] * (table.shape[1] - 1))
    head, line, *rows = table.to_markdown(index=False, disable_numparse=True, colalign=align).splitlines()
    unpadded = [re.sub(r" {2,}", " ", row) for row in (head, *rows)]
    return "\n".join([unpadded[0], re.sub(r"-+", "---", line), *unpadded[1:]])


def print_table(table: pd.DataFrame, title: str = "") -> None:
    """Print a table as Markdown, a line of title above it and an empty line below it."""
    print(*([f"{title}\n"] if title else []), markdown_table(table), sep="\n", end="\n\n", flush=True)
