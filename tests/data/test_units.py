"""Parsing and formatting of sizes and times."""

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_bytes, format_number, format_slots, parse_seconds, parse_size


@pytest.mark.parametrize(
    ("text", "value"), [("64", 64), (64, 64), ("64k", 65536), ("1M", 2**20), ("2.5G", 5 * 2**29), ("8GiB", 2**33), (" 4 k ", 4096)]
)
def test_parse(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "0", "-4", "1.5", "k", "12q", "1e6", "0.0001k", "9" * 400, "9999999999G"])
def test_refuse(text):
    with pytest.raises(UsageError, match="expected a size such as"):
        parse_size(text)


def test_format():
    assert [format_slots(n) for n in (64, 1024, 65536, 3 * 2**20, 1000, 2**30)] == ["64", "1k", "64k", "3M", "1000", "1G"]
    assert [format_bytes(n) for n in (12, 1023590, 8179916, 2**40)] == ["12 B", "0.976 MiB", "7.8 MiB", "1,024 GiB"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0s", "3d", "9" * 400])
def test_text_that_is_not_a_time(text):
    with pytest.raises(UsageError, match="expected a time such as"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("value", "text"), [(3.294, "3.29"), (0.0221, "0.0221"), (999.4, "999"), (999.6, "1,000"), (4053.2, "4,053"), (-4053.2, "-4,053")]
)
def test_a_large_number_has_no_power_of_ten(value, text):
    assert format_number(value) == text
