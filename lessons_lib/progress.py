"""A progress bar where somebody watches, and silence in stored outputs."""

from __future__ import annotations

import sys

from tqdm.auto import tqdm


def watched() -> bool:
    """Whether a person sees the output: a terminal, or a notebook front end.

    Programs that execute notebooks tell the kernel that nobody can answer a prompt; JupyterLab and Colab
    tell it that somebody can.
    """
    try:
        kernel = get_ipython().kernel  # type: ignore[name-defined]
    except (NameError, AttributeError):
        return sys.stderr.isatty()
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


def bar(total: int, description: str) -> tqdm:
    """A tqdm bar for ``total`` steps that appears after two seconds, or never when nobody watches."""
    return tqdm(total=total, desc=description, disable=not watched(), leave=False, delay=2, dynamic_ncols=True)
