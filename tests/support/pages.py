"""Finds what a page would load from other hosts, for tests that it is self-contained."""

import re

# In attributes, in CSS and in scripts; `//host` takes the protocol of the page.
BEFORE = r"\b(?:href|src|srcset|data|action|poster)\s*=|url\(|@import|\bfetch\(|\bimport\("
LOADS = re.compile(rf"""(?:{BEFORE})\s*["']?((?:https?:)?//[^"')\s>]+)""")
NAMESPACES = ("http://www.w3.org/", "http://purl.org/", "http://creativecommons.org/")  # names in SVG; nothing is loaded


def outside_urls(page: str) -> list[str]:
    """Return every URL of another host that a browser would load or lead to."""
    return [url for url in LOADS.findall(page) if not url.startswith(NAMESPACES)]
