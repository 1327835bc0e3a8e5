"""Fine-tuning and evaluation of SAM 2 on medical images as SLURM jobs. In notebooks: `sam2ft.results("runs/NAME")`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2ft.notebooks import results

__all__ = ["results"]


def __getattr__(name: str) -> Any:
    # Imported on use: every command imports this file, and few need tables.
    if name == "results":
        from sam2ft.notebooks import results

        return results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
