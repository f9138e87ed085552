"""The figures in docs/reliability.md are those of the stored counts."""

from tests.endurance.figures import PAGE, filled


def test_the_page_shows_the_stored_counts():
    page = PAGE.read_text()
    assert filled(page) == page
