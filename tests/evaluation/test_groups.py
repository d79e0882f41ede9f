"""Rows are grouped in their order, and groups of one name differ by a remark."""

from bandsplit.evaluation.groups import differing, find_cliques, group, make_remarks, with_remark


def test_groups_and_their_rows_keep_the_order_of_first_appearance() -> None:
    assert group([5, 2, 3, 8, 1], lambda number: number % 2 == 1) == {True: [5, 3, 1], False: [2, 8]}
    assert list(group(["b", "a", "b"], str)) == ["b", "a"]


def test_only_fields_with_several_values_differ() -> None:
    assert differing([{"mixture": "sum", "version": "1"}, {"mixture": "sum", "version": "2"}]) == ["version"]
    assert differing([{"mixture": "sum"}]) == differing([]) == []


def test_names_that_stand_once_need_no_remark() -> None:
    conditions = [{"seed": 1, "version": "1"}, {"seed": 1, "version": "2"}, {"seed": 2, "version": "3"}]
    remarks = make_remarks(["a", "a", "b"], conditions, lambda field, value: f"{field} {value}")
    assert list(map(with_remark, ["a", "a", "b"], remarks)) == ["a (version 1)", "a (version 2)", "b"]


def test_a_clique_holds_names_of_which_all_pairs_are_given() -> None:
    names = ["a", "b", "c", "d"]
    assert find_cliques([("a", "b"), ("c", "b")], names) == [["a", "b"], ["b", "c"]]
    assert find_cliques([("a", "b"), ("c", "b"), ("a", "c"), ("d", "elsewhere")], names) == [["a", "b", "c"]]
    assert find_cliques([], names) == []
