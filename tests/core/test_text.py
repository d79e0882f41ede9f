"""Numbers, nouns and names as text."""

import pytest

from bandsplit.core.text import counted, numbered, range_text, three_digits


def test_nouns_follow_their_number():
    assert [counted(number, "song") for number in (0, 1, 2)] == ["0 songs", "1 song", "2 songs"]


def test_a_range_of_one_number_is_that_number():
    assert (range_text([3, 1, 2]), range_text({2})) == ("1 to 3", "2")


def test_the_first_of_a_name_has_no_number():
    assert [numbered("table", number) for number in (1, 2, 10)] == ["table", "table-2", "table-10"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")],
)
def test_three_digits_count(value: float | None, text: str):
    assert three_digits(value) == text
