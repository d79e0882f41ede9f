"""Models on their way to the Hub: what is sent, what the page says, and what is refused."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from bandsplit.core.errors import BandsplitError
from bandsplit.models.bags import Bag, BagMember, write_bag
from bandsplit.models.pretrained.hub import HubName, look_up
from bandsplit.models.pretrained.publishing import Publication, prepare, publish
from bandsplit.models.pretrained.registry import find_entry
from bandsplit.models.pretrained.store import install_model
from checkpoints import Store
from hub_server import TOKEN, Hub
from tiny_models import write_tiny_model

NAME = HubName("ada", "tiny")

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # inside the Hub's library


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny_model(tmp_path / f"{name}-best.safetensors", name, card={"name": f"run {name}"})
            for name in ("bass", "vocals")]  # fmt: skip


def refusal(publication: Publication) -> str:
    with pytest.raises(BandsplitError) as caught:
        publish(publication)
    return str(caught.value)


def facts_of(page: str) -> dict[str, object]:
    return yaml.safe_load(page.split("---\n")[1])


def test_what_is_pushed_is_what_is_fetched(hub: Hub, store: Store, models: list[Path]):
    store.patch.setenv("HF_TOKEN", TOKEN)
    commit = publish(prepare(models, NAME))
    page = hub.pages["ada/tiny"]
    assert [*page.commits] == [commit] and page.private and page.messages == ["2 models of bandsplit"]
    assert page.head.keys() == {"README.md", "bass.safetensors", "vocals.safetensors"}
    fetched = install_model(look_up(f"hf:ada/tiny@{commit[:12]}"))
    assert [path.read_bytes() for path in fetched] == [path.read_bytes() for path in reversed(models)]
    assert find_entry(f"hf:ada/tiny@{commit[:12]}").licence == "CC0"


def test_the_page_is_the_card(models: list[Path]):
    page = prepare(models, NAME).page
    assert facts_of(page) == {
        "license": "cc0-1.0", "library_name": "bandsplit", "pipeline_tag": "audio-to-audio",
        "tags": ["music-source-separation", "bandsplit", "bsrnn"],
    }  # fmt: skip
    assert "# tiny" in page and "bandsplit separate SONG.wav -n hf:ada/tiny" in page
    for text in ("## bass.safetensors", "| name | run bass |", "| training data | none |", "| sample rate | 8000 Hz |",
                 "| saw the test songs of MUSDB18-HQ | not known |"):  # fmt: skip
        assert text in page


def test_a_card_cannot_write_more_than_its_cell(tmp_path: Path):
    card = {"licence": "mine | no\n---\n<script>[x](y)", "training_data": "a" * 5000}
    path = write_tiny_model(tmp_path / "m.safetensors", "bass", card=card)
    page = prepare([path], NAME).page
    assert facts_of(page)["license"] == "other"
    assert (
        r"| licence | mine \| no --- \<script\>\[x\](y) |" in page.splitlines()
        and max(map(len, page.splitlines())) < 1100
    )


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("MIT", "mit"),
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("not stated by its authors", "other"),
        ("CC0", "cc0-1.0"),
    ],
)
def test_known_licences_have_the_hubs_name(tmp_path: Path, licence: str, name: str):
    path = write_tiny_model(tmp_path / "m.safetensors", "bass", card={"licence": licence})
    assert facts_of(prepare([path], NAME).page)["license"] == name


def test_a_second_push_replaces_the_models_in_one_commit_and_sends_nothing_twice(
    hub: Hub, store: Store, models: list[Path]
):
    store.patch.setenv("HF_TOKEN", TOKEN)
    publish(prepare(models, NAME))
    hub.asked.clear()
    publish(prepare(models[:1], NAME), public=True)
    assert hub.pages["ada/tiny"].head.keys() == {"README.md", "bass.safetensors"}
    assert hub.paths("PUT") == [] and hub.pages["ada/tiny"].private


def test_an_upload_that_breaks_leaves_the_page_as_it_was_and_continues(hub: Hub, store: Store, models: list[Path]):
    store.patch.setenv("HF_TOKEN", TOKEN)
    publication = prepare(models, NAME)
    digest = hashlib.sha256(models[1].read_bytes()).hexdigest()
    hub.refuses[f"/upload/{digest}"] = 400
    message = refusal(publication)
    assert "was not sent" in message and "run the same command again: what arrived is not sent twice" in message
    assert hub.pages["ada/tiny"].head == {}
    hub.refuses.clear()
    hub.asked.clear()
    publish(prepare(models, NAME))
    assert hub.paths("PUT") == [f"/upload/{digest}"] and len(hub.pages["ada/tiny"].head) == 3


def test_a_bag_is_pushed_with_its_members_and_fetched_as_a_bag(hub: Hub, store: Store, models: list[Path]):
    store.patch.setenv("HF_TOKEN", TOKEN)
    bag = models[0].parent / "both.yaml"
    write_bag(bag, Bag(name="both", members=tuple(BagMember(model=path.name) for path in models)))
    publish(prepare([bag], NAME))
    assert hub.pages["ada/tiny"].head.keys() == {"README.md", "bag.yaml", *(path.name for path in models)}
    assert [path.name for path in install_model(look_up("hf:ada/tiny"))] == ["bag.yaml"]


@pytest.mark.parametrize("member", ["../m.safetensors", "htdemucs", "other.yaml"])
def test_a_bag_with_members_elsewhere_is_refused(tmp_path: Path, member: str):
    write_tiny_model(tmp_path / "m.safetensors", "bass")
    (tmp_path / "in").mkdir()
    bag = tmp_path / "in" / "bag.yaml"
    write_bag(bag, Bag(members=(BagMember(model=member),)))
    with pytest.raises(
        BandsplitError, match=re.escape(f"members: number 1 ({member}) is not a model file in the folder")
    ):
        prepare([bag], NAME)


def test_only_model_files_are_published(tmp_path: Path, models: list[Path]):
    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "m.safetensors").write_bytes(b"x" * 100)
    for path, message in ((tmp_path / "m.onnx", "only .safetensors models are published"),
                          (tmp_path / "m.safetensors", "is not a model file or is damaged")):  # fmt: skip
        with pytest.raises(BandsplitError, match=message):
            prepare([path], NAME)
    with pytest.raises(BandsplitError, match=r"bass.safetensors: two of the models would have this name"):
        prepare([models[0], write_tiny_model(tmp_path / "other.safetensors", "bass")], NAME)
    with pytest.raises(BandsplitError, match="a commit is made on the main branch; leave @v1 out"):
        prepare(models, HubName("ada", "tiny", "v1"))


def test_without_a_token_or_with_a_wrong_one_nothing_is_made(hub: Hub, store: Store, models: list[Path]):
    publication = prepare(models, NAME)
    assert "hf:ada/tiny: publishing needs a token that may write; set HF_TOKEN, or run: hf auth login" in refusal(
        publication
    )
    assert hub.asked == []
    store.patch.setenv("HF_TOKEN", "hf_wrong")
    assert "the token is not accepted or lacks the right: set HF_TOKEN" in refusal(publication) and hub.pages == {}
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert "BANDSPLIT_OFFLINE forbids to use the network" in refusal(publication)
