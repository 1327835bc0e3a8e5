"""Numbers and names as people read them."""

from collections.abc import Sequence

from sam2ft.report.compare import Score

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """`0.912`; a small or large value in powers of ten; a dash for none."""
    if value is None or value != value:  # noqa: PLR0124 (only NaN differs from itself)
        return NOTHING
    if value != 0 and not 10**-digits <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.051` or `−0.020` (a real minus sign, so that columns align); a dash for none."""
    if value is None or value != value:  # noqa: PLR0124
        return NOTHING
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(score: Score | None, digits: int = 3) -> str:
    """`[0.880, 0.940]`, nothing when there is none."""
    if score is None or score.ci_low is None or score.ci_high is None:
        return ""
    return f"[{number(score.ci_low, digits)}, {number(score.ci_high, digits)}]"


def printable(text: object) -> str:
    """`text` without the control characters that move a terminal's cursor or hide what follows."""
    return "".join(sign if sign.isprintable() else "�" for sign in str(text))


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key -> its shortest ending that no other key has: `module.optimizer.lr` -> `lr`."""
    found = {}
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[key] = next(
            (end for end in endings if not any(f".{other}".endswith(f".{end}") for other in keys if other != key)), key
        )
    return found
