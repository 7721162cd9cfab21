"""Take the README's picture again: a real run of the demo, photographed in a headless Chromium.

python docs/pictures.py [--scenario edge] [--theme dark]

Needs Playwright for Python (`pip install playwright`) and a Chromium: the system's, or `playwright install chromium`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from eigenscope.dashboard import Server

PICTURE = Path(__file__).parent / "images" / "panel.png"
WIDTH, HEIGHT = 1600, 1010  # down to the end of the loss
MOST_BYTES = 400_000


def demo(scenario: str, folder: Path) -> Path:
    """Train, and give the run file."""
    command = [sys.executable, "-m", "eigenscope", "demo", "--no-serve", "--scenario", scenario]
    run = folder / scenario
    subprocess.run([*command, "--steps", "400", "--every", "5", "--run", run], check=True, stdout=subprocess.DEVNULL)
    return run


def photograph(run: Path, theme: str, picture: Path) -> None:
    """Open the dashboard on a finished run, and wait until nothing is drawn any more."""
    server = Server(run, port=0)
    server.start()
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
        page.goto(server.url)
        page.get_by_text("finished").first.wait_for()
        page.wait_for_load_state("networkidle")
        picture.parent.mkdir(exist_ok=True)
        page.screenshot(path=picture, animations="disabled")
        browser.close()
    server.stop()


def main() -> None:
    """Train, photograph, check the size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scenario", default="edge")
    options.add_argument("--theme", choices=["light", "dark"], default="dark")
    options.add_argument("--out", type=Path, default=PICTURE)
    given = options.parse_args()
    with TemporaryDirectory() as folder:
        photograph(demo(given.scenario, Path(folder)), given.theme, given.out)
    size = given.out.stat().st_size
    print(f"{given.out}: {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        sys.exit(f"the picture has {size:,} bytes, and should have at most {MOST_BYTES:,}")


if __name__ == "__main__":
    main()
