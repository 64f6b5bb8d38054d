"""Stands in for `isolux` in tests of sweeps: `stand_in.py train --conf FILE [--resume]`.

What it does is said in `plan.json` beside the run folders, by name of the trial: a list with a
word for each start, the last of which holds for all later ones.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from isolux.optimize.lock import locked
from isolux.sweep.child import end_with_parent


def main() -> int:
    """Pretend to train."""
    end_with_parent()
    conf = json.loads(Path(sys.argv[3]).read_text())
    folder = Path(conf["out"])
    words = json.loads((folder.parent / "plan.json").read_text()).get(folder.name, ["good"])
    with locked(folder), (folder.parent / "starts.txt").open("a") as file:
        starts = folder / "starts"
        number = int(starts.read_text()) if starts.exists() else 0
        file.write(f"{folder.name} {number} {'resume' if '--resume' in sys.argv else 'new'}\n")
        file.flush()
        starts.write_text(str(number + 1))
        (folder / "conf.json").write_text(json.dumps(conf))
        (folder / "seen.json").write_text(
            json.dumps({"cuda": os.environ.get("CUDA_VISIBLE_DEVICES")})
        )
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "000001_topology_000001.safetensors").touch()
        return act(words[min(number, len(words) - 1)], folder, conf)


def act(word: str, folder: Path, conf: dict) -> int:
    """Do what a word says; gives the exit code."""
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "kill worker":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if word == "memory":
        sys.stderr.write("isolux: Unable to allocate 1.2 GiB for an array\n")
        return 1
    if word == "nan":
        sys.stderr.write("isolux: step 3: terms are not finite: mask\n")
        return 1
    if word == "mistake":
        sys.stderr.write("isolux: data.path: 5 absent pictures of 12\n")
        return 2
    if word == "empty":
        return 0
    if word == "137":
        return 137
    if word == "wait":
        time.sleep(60)
    if word == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)
    finish(folder, conf)
    return 0


def finish(folder: Path, conf: dict) -> None:
    """Files of a finished run."""
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (64, 32), (200, 90, 30)).save(folder / "images" / "compare_r_0.png")
    (folder / "report.html").write_text("<p>report</p>")
    psnr = 20.0 + conf["geometry"]["resolution"] / 10
    (folder / "metrics.json").write_text(
        json.dumps({"test": {"psnr": psnr, "ssim": 0.9}, "time_s": {"total": 1.5}})
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
