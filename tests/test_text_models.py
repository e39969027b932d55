"""BERTs: published sizes, equal to transformers' own BERT, blind to padding, weights from safetensors alone."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save, save_file

from kdlib import models, text_models
from kdlib.errors import DataError, InvalidInput
from tests.nets import count_parameters

SMALL = ["bert_mini", "bert_tiny", "bert_1x64"]
LARGE = ["bert_base", "distilbert"]
TEXTS = torch.tensor([[2, 9, 8, 3, 0, 0], [2, 5, 3, 0, 0, 0], [2, 7, 7, 6, 11, 3]])


def build(name, *, vocabulary=12, tokens=8, seed=0):
    return models.seeded(lambda: models.build(name, classes=2, vocabulary=vocabulary, tokens=tokens), seed)


@pytest.mark.parametrize(("name", "parameters"), [("bert_base", 109_483_778), ("distilbert", 66_955_010)])
def test_published_sizes(name, parameters):
    """110 M (Devlin et al. 2019) and 66 M (Sanh et al. 2019), whose 66.4 M and the head's 768 x 768 make 67.0 M."""
    with torch.device("meta"):
        model = build(name, vocabulary=30_522, tokens=128)
    assert count_parameters(model) == parameters


def test_small_sizes_by_hand():
    """width x (vocabulary + tokens + 2) + layers (12 width^2 + 13 width) + pooler and head."""
    for name, layers, width in (("bert_mini", 4, 256), ("bert_tiny", 2, 128), ("bert_1x64", 1, 64)):
        by_hand = width * (12 + 8 + 2) + layers * (12 * width**2 + 13 * width) + width * (width + 1) + 2 * (width + 1)
        assert count_parameters(build(name)) == by_hand


@pytest.mark.parametrize("name", SMALL)
def test_a_small_bert_is_that_of_transformers(name):
    from transformers import BertConfig, BertForSequenceClassification

    ours = lively(build(name))
    width = ours.norm.normalized_shape[0]
    config = BertConfig(
        vocab_size=12,
        hidden_size=width,
        num_hidden_layers=len(ours.layers),
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        num_labels=2,
        max_position_embeddings=8,
    )
    theirs = text_models.Published(BertForSequenceClassification(config)).eval()
    weights = {f"network.{key}": value for key, value in theirs_from(ours).items()}
    assert not theirs.load_state_dict(weights, strict=False).missing_keys
    torch.testing.assert_close(ours(TEXTS), theirs(TEXTS), atol=1e-5, rtol=0)


def theirs_from(ours):
    """Our weights under transformers' names. Its segment embeddings are 0: posts have one segment."""
    found = {
        "bert.embeddings.word_embeddings": ours.words,
        "bert.embeddings.position_embeddings": ours.positions,
        "bert.embeddings.LayerNorm": ours.norm,
        "bert.pooler.dense": ours.pooler,
        "classifier": ours.classifier,
    }
    for i, layer in enumerate(ours.layers):
        found |= {
            f"bert.encoder.layer.{i}.attention.output.dense": layer.out,
            f"bert.encoder.layer.{i}.attention.output.LayerNorm": layer.attention_norm,
            f"bert.encoder.layer.{i}.intermediate.dense": layer.up,
            f"bert.encoder.layer.{i}.output.dense": layer.down,
            f"bert.encoder.layer.{i}.output.LayerNorm": layer.norm,
        }
    weights = {f"{name}.{key}": value for name, module in found.items() for key, value in module.state_dict().items()}
    for i, layer in enumerate(ours.layers):
        for kind in ("weight", "bias"):
            parts = getattr(layer.qkv, kind).chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                weights[f"bert.encoder.layer.{i}.attention.self.{name}.{kind}"] = part
    width = ours.norm.normalized_shape[0]
    return weights | {"bert.embeddings.token_type_embeddings.weight": torch.zeros(2, width)}


def lively(model):
    """Larger weights than at the start, where texts differ too little for a test."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_padding_and_neighbors_change_nothing(name):
    model = lively(build(name))
    together = model(F.pad(TEXTS, (0, 2)))
    for text, logits in zip(TEXTS, together, strict=True):
        alone = model(text[text != 0][None])
        torch.testing.assert_close(alone[0], logits, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_learns_dropout_draws_and_bytes_restore_it(name):
    model = build(name).train()
    torch.manual_seed(1)
    first = model(TEXTS)
    torch.manual_seed(1)
    assert torch.equal(first, model(TEXTS))
    assert not torch.equal(first, model(TEXTS))
    F.cross_entropy(first, torch.tensor([0, 1, 1])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    other = build(name, seed=5)
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(other.eval()(TEXTS), model.eval()(TEXTS))


def test_bf16_gives_nearly_the_same():
    model = build("bert_tiny").eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(TEXTS)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), model(TEXTS), atol=0.02, rtol=0)


def test_a_small_bert_learns_which_word_is_there():
    model = build("bert_1x64")
    torch.manual_seed(0)
    x = torch.randint(5, 12, (256, 6))
    x[:, 0] = 2
    y = (x == 5).any(dim=1).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model.eval()(x).argmax(dim=1) == y).float().mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_step_of_the_published_networks(name):
    model = build(name, vocabulary=200, tokens=16).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    before = model.network.classifier.weight.detach().clone()
    F.cross_entropy(model(TEXTS[:2]), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert not torch.equal(before, model.network.classifier.weight)
    assert len(load(save(model.state_dict()))) == len(model.state_dict())
    model.eval()
    torch.testing.assert_close(model(TEXTS[:1]), model(TEXTS[:1, :4]), atol=1e-5, rtol=0)


# -------------------------------------------------------------------------------------------------- published weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where published weights are looked for first; the hub is out of reach."""

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    folder = tmp_path / "models" / "bert-base-uncased"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def config():
    from transformers import BertConfig

    return BertConfig(
        vocab_size=text_models.PUBLISHED_VOCABULARY,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )


@pytest.fixture
def pretrained(config):
    from transformers import BertForSequenceClassification

    def pretrained(init="pretrained", seed=0):
        return models.seeded(
            lambda: text_models.with_weights(
                BertForSequenceClassification, config, "google-bert/bert-base-uncased", init=init
            ),
            seed,
        )

    return pretrained


@pytest.fixture
def body(pretrained):
    """All published weights: those of a network without its head."""
    weights = pretrained("scratch", seed=9).state_dict()
    return {key: value for key, value in weights.items() if not key.startswith("classifier")}


def test_all_weights_but_the_head_are_the_published_ones(folder, pretrained, body, capfd):
    save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
    one, again, other = pretrained(seed=1), pretrained(seed=1), pretrained(seed=2)
    for key, value in body.items():
        assert torch.equal(one.state_dict()[key], value) and torch.equal(other.state_dict()[key], value)
    assert torch.equal(one.classifier.weight, again.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.state_dict().keys() == pretrained("scratch").state_dict().keys()
    assert capfd.readouterr() == ("", "")


def test_a_pickle_in_the_folder_is_not_looked_at(folder, pretrained, body):
    torch.save(body, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"model\.safetensors of google-bert/bert-base-uncased"):
        pretrained()


@pytest.mark.parametrize("damage", ["truncated", "page", "shapes"])
def test_damaged_weights_are_refused(folder, pretrained, body, damage):
    path = folder / "model.safetensors"
    save_file(
        {k: v.flatten() for k, v in body.items()} if damage == "shapes" else body, path, metadata={"format": "pt"}
    )
    raw = path.read_bytes()
    path.write_bytes({"truncated": raw[:-50], "page": b"<html>gone</html>", "shapes": raw}[damage])
    with pytest.raises(DataError, match=r"model\.safetensors .*google-bert/bert-base-uncased"):
        pretrained()


def test_missing_weights_are_never_made_up(folder, pretrained, body):
    without = {key: value for key, value in body.items() if "pooler" not in key}
    save_file(without, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"bert\.pooler\.dense\.bias"):
        pretrained()


def test_inits_that_a_network_does_not_have_are_refused():
    small = {"classes": 2, "vocabulary": 12, "tokens": 8}
    with pytest.raises(InvalidInput, match="'pretrained'"):
        models.build("bert_1x64", init="pretrained", **small)
    for name in LARGE:
        with pytest.raises(InvalidInput, match="'hub'"):
            models.build(name, init="hub", **small)
        with pytest.raises(InvalidInput, match="30,522 .* 12"):
            models.build(name, init="pretrained", **small)
