"""X-MSilo-IDs: each names its row, and none can be guessed from another."""

from msilo_lite.box.rows import DIGITS, DIGITS_AT_ONCE, Marks


def test_each_names_its_row_and_no_two_share_their_random_part() -> None:
    marks = Marks()
    made: list[str] = []
    for count in (1, 16, 0, 3, DIGITS_AT_ONCE // DIGITS + 1, 200, 64, 1):
        made += marks.make(len(made) + 1, count)
    numbers, random = zip(*(one.split("-") for one in made), strict=True)
    assert [int(one, 16) for one in numbers] == list(range(1, len(made) + 1))
    assert {len(one) for one in random} == {DIGITS}
    assert len(set(random)) == len(made)
    assert all(int(one, 16) >= 0 for one in random)


def test_two_that_make_them_share_nothing() -> None:
    assert not set(Marks().make(1, 300)) & set(Marks().make(1, 300))
