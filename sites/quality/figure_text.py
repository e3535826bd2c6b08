"""A figure beside the limit that it passed, with as many digits as it takes to see that they differ."""

from __future__ import annotations


def told_apart(figure: float, limit: float, *, min_digits: int = 2, max_digits: int = 9) -> tuple[str, str]:
    """A limit and a figure beyond it, with as many digits as it takes to see that they differ.

    Parameters
    ----------
    figure, limit
        In one unit.
    min_digits, max_digits
        Digits after the point: from `min_digits` up to below `max_digits`; beyond, both are written whole.

    Returns
    -------
    tuple[str, str]
        The limit first, then the figure.
    """
    for digits in range(min_digits, max_digits):
        texts = f"{limit:.{digits}f}", f"{figure:.{digits}f}"
        if texts[0] != texts[1]:
            return texts
    return repr(limit), repr(figure)


def shares_told_apart(figure: float, limit: float) -> tuple[str, str]:
    """The limit and the figure in percent.

    Parameters
    ----------
    figure, limit
        Shares, 1 for all.

    Returns
    -------
    tuple[str, str]
        The limit first, then the figure, each with its percent sign.
    """
    texts = told_apart(100 * figure, 100 * limit, min_digits=0)
    return f"{texts[0]}%", f"{texts[1]}%"
