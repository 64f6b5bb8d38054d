"""The README's pictures: a finished run drawn larger than it was trained, beside its reference.

python docs/pictures.py out/demo docs/pictures/demo.png [--size 320] [--view 3]
"""

import argparse
from pathlib import Path

from isolux.optimize.comparison import comparison_row
from isolux.optimize.open import open_scene
from isolux.optimize.results import compared
from isolux.optimize.run import load
from isolux.render.picture import write_png


def main() -> None:
    """Draw one held-out view."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=320, help="pixels")
    parser.add_argument("--view", type=int, default=3, help="which of the test views")
    options = parser.parse_args()
    run = load(options.run)
    data = run.conf.data.model_copy(update={"size": options.size})
    views = open_scene(data, run.backend, run.conf.seed).test
    view = compared(run.backend, run.scene, views, options.view, run.lens, data.background)
    write_png(options.picture, comparison_row(view, run.light))


if __name__ == "__main__":
    main()
