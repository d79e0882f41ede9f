"""Messages about tensors that do not fit a configuration."""

from bandsplit.models.tensors import describe_problems


def test_tensors_that_differ_only_in_numbers_are_one_group():
    problems = [f"missing: layers.{i}.{j}.to_qkv.weight" for i in range(12) for j in range(2)]
    problems += ["unexpected: scale", "misshapen: layers.0.norm is (8,), expected (9,)"]
    assert describe_problems(problems) == (
        "26 tensor(s) do not fit the configuration: missing: layers.0.0.to_qkv.weight (and 23 more "
        "layers.*.*.to_qkv.weight); unexpected: scale; misshapen: layers.0.norm is (8,), expected (9,)"
    )


def test_many_groups_are_counted():
    problems = [f"unexpected: {first}{second}.{i}" for first in "abcd" for second in "abc" for i in range(1000)]
    text = describe_problems(problems)
    assert text.startswith("12000 tensor(s) do not fit the configuration: unexpected: aa.0 (and 999 more aa.*); ")
    assert text.endswith("; unexpected: da.0 (and 999 more da.*); and 2000 more")
    assert len(text) < 600
