"""A headless Chromium that opens a page from a file, acts on it and says what it found."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def acted(path, folder, script, width=1200, height=900):
    """The value that `script` returns in the page, and the browser's console messages.

    The page is copied with the script at its end; its value is written into the title as JSON.
    """
    text = path.read_text("utf-8")
    assert text.count("</body>") == 1
    after = (
        "<script>if (window === window.top) window.addEventListener('load', async () => {"
        "document.title = JSON.stringify(await (async () => {" + script + "})());});"
        "</script></body>"
    )
    copy = folder / f"acted-{width}.html"
    copy.write_text(text.replace("</body>", after), "utf-8")
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *("--enable-logging=stderr", f"--window-size={width},{height}"),
        *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", copy.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    unescaped = title[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(unescaped), console


def widths(path, folder, width):
    """Width of the content and of the window, for a window of any width, and console messages.

    The page is shown in a frame of its own, because a window of Chromium is at least 500 wide.
    """
    script = f"""
        const frame = document.createElement("iframe");
        frame.style.width = "{width}px";
        frame.style.height = "900px";
        frame.style.border = "0";
        const loaded = new Promise(done => frame.addEventListener("load", done));
        frame.srcdoc = "<!DOCTYPE html>" + document.documentElement.outerHTML;
        document.body.append(frame);
        await loaded;
        const page = frame.contentDocument.documentElement;
        return [page.scrollWidth, frame.contentWindow.innerWidth];
    """
    return acted(path, folder, script, width=1700)
