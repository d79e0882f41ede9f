"""Settings of other software."""

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.models.options import Options


def test_options_that_nobody_used_are_named_with_their_values_and_the_nearest_known_one():
    options = Options({"dim": 8, "depht": 2, "flash_attn": True, "use_pope": True}, "model")
    assert (options.take("dim"), options.take("depth", 6)) == (8, 6)
    options.skip("flash_attn")
    with pytest.raises(ModelFileError) as caught:
        options.close()
    assert str(caught.value) == (
        "model: unknown option(s): depht = 2 (did you mean depth?), use_pope = True; known: depth, dim, flash_attn"
    )


def test_a_needed_option_that_is_missing_is_named():
    with pytest.raises(ModelFileError, match=r"^audio: needs the option 'n_fft'$"):
        Options({}, "audio").take("n_fft")


def test_an_option_without_counterpart_is_refused_unless_it_has_a_legal_value():
    options = Options({"skip": True, "window": "hann"}, "model")
    options.require("window", "hann")
    options.require("absent", 1, 2)
    with pytest.raises(ModelFileError, match=r"^model: skip = True is not supported; legal: False$"):
        options.require("skip", False)
    options.close()


@pytest.mark.parametrize("section", [None, [1], "text", {1: 2}])
def test_a_section_that_is_not_a_mapping_is_refused(section: object):
    with pytest.raises(ModelFileError, match=r"^model: must map names of options to values, is "):
        Options(section, "model")
