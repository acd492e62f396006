"""What a method is: its source, its published figures, and what it changes in each stage's defaults.

    python -m scripts.methods.settings sre2l            fails where the method lacks one of the three stages
"""
import sys

from utils.methods import STAGES, method_named, protocol_settings
from utils.methods.published import FIGURES
from utils.runtime import command_line


def main(argv: list[str] | None = None) -> None:
    """Prints one method."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1:
        raise ValueError(f"expected the name of one method, got {len(words)}: "
                         f"python -m scripts.methods.settings sre2l")
    method = method_named(words[0])
    print(f"{method.name}: {method.source}; {method.code}")
    if method.reading:
        print(f"  read so    {method.reading}")
    for own in (own for own in FIGURES if own.method == method.name):
        print(f"  published  {own}")
    for stage in STAGES:
        method.settings(stage)
        changed = protocol_settings(stage, method.name).items()
        print(f"  {stage:<9}  " + (", ".join(f"{name} {value}" for name, value in changed) or "the defaults"))


if __name__ == "__main__":
    command_line(main)
