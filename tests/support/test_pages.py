"""The check that a page is self-contained finds planted requests."""

import pytest

from tests.support.pages import outside_urls


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img src=http://cdn.example/x.png>",
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        "<style>@import 'https://cdn.example/x.css';</style>",
        "<style>body { background: url(https://cdn.example/x.png) }</style>",
        "<script>fetch('https://cdn.example/x')</script>",
        '<image xlink:href="https://cdn.example/x.png"/>',
    ],
)
def test_planted_request_is_found(planted):
    (url,) = outside_urls(f"<html>{planted}</html>")
    assert url.split("//")[1].startswith("cdn.example/x")


def test_links_within_the_page_and_names_are_no_requests():
    page = '<a href="#case-1">N</a><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><rect/></svg>'
    assert outside_urls(page + '<img src="data:image/png;base64,AA//AA">') == []
