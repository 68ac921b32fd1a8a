"""``deepfinder completion``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from deepfinder_dask.cli.options import verb


@verb()
def completion(
    shell: Literal["bash", "zsh", "fish"] = "bash",
    /,
    *,
    install: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> str:
    """Complete verbs and options in the shell.

    Prints a script to be read by the shell; with --install it is put where the shell finds it from its next start.

    Parameters
    ----------
    shell
        Which shell.
    install
        Put the script where the shell looks for it, and name it in ~/.bashrc or ~/.zshrc, instead of printing it.

    Examples
    --------
    source <(deepfinder completion bash)    # in this shell
    deepfinder completion bash --install    # in all shells to come
    """
    from deepfinder_dask.cli.app import app

    if install:
        return f"installed {app.install_completion(shell=shell)}: open a new shell"
    return app.generate_completion(prog_name="deepfinder", shell=shell).rstrip("\n") + "\n"
