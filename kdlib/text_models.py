"""Networks that read posts: BERT-Base and DistilBERT of transformers, and small ones from scratch.

Input (N, length) int64 token numbers, 0 after the end of a text; output logits (N, C), the same whatever the padding.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib import places
from kdlib.data.text import published_file
from kdlib.errors import DataError, InvalidInput, library

DROPOUT = 0.1  # of BERT, everywhere
PUBLISHED_VOCABULARY = 30_522
HEAD = ("classifier.", "pre_classifier.")  # what published weights leave out


class Encoder(nn.Module):
    """BERT (Devlin et al. 2019) with `layers` of `width` in heads of 64, for texts of one segment, so without segments.

    Everything but attention runs over the tokens that are there, without padding: posts differ much in length, so that
    takes half the time of computing on padding too.
    """

    def __init__(self, layers: int, width: int, *, classes: int, vocabulary: int, tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = nn.Embedding(tokens, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads=width // 64) for _ in range(layers))
        self.pooler = nn.Linear(width, width)
        self.classifier = nn.Linear(width, classes)
        self.dropout = nn.Dropout(DROPOUT)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        there = x != 0
        place = there.nonzero()[:, 1]
        h = self.dropout(self.norm(self.words(x[there]) + self.positions(place)))  # (tokens of all texts, width)
        for layer in self.layers:
            h = layer(h, there)
        return self.classifier(self.dropout(torch.tanh(self.pooler(h[place == 0]))))


class Layer(nn.Module):
    """Self-attention, then two linear layers with GELU; dropout, sum and LayerNorm after each."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, h: Tensor, there: Tensor) -> Tensor:
        """h (tokens of all texts, width), there (N, length) bool: where they stand."""
        h = self.attention_norm(h + self.dropout(self.out(self._attend(self.qkv(h), there))))
        return self.norm(h + self.dropout(self.down(F.gelu(self.up(h)))))

    def _attend(self, qkv: Tensor, there: Tensor) -> Tensor:
        padded = qkv.new_zeros(*there.shape, qkv.shape[1])
        padded[there] = qkv
        q, k, v = padded.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, length, 64) each
        rate = DROPOUT if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None], dropout_p=rate)
        return mixed.transpose(1, 2).flatten(2)[there]


bert_mini = partial(Encoder, 4, 256)  # as BERT-Mini of Turc et al. 2019
bert_tiny = partial(Encoder, 2, 128)  # as BERT-Tiny of Turc et al. 2019
bert_1x64 = partial(Encoder, 1, 64)  # a size of our own, for a student that is smaller than BERT-Tiny


class Published(nn.Module):
    """A sequence classifier of transformers as a function of token numbers alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(input_ids=x, attention_mask=(x != 0).long()).logits


def _published(kind: str, name: str, *, classes: int, vocabulary: int, tokens: int, init: str) -> nn.Module:
    """The sequence classifier `kind` of transformers. name: of its weights; init: see `with_weights`."""
    transformers = library("transformers", of="kdlib[text]")
    sizes = {"vocab_size": vocabulary, "num_labels": classes, "max_position_embeddings": max(512, tokens)}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return Published(with_weights(getattr(transformers, f"{kind}ForSequenceClassification"), config, name, init=init))


# Uncased: 12 layers of 768 (Devlin et al. 2019), and 6 of them (Sanh et al. 2019).
bert_base = partial(_published, "Bert", "google-bert/bert-base-uncased")
distilbert = partial(_published, "DistilBert", "distilbert/distilbert-base-uncased")


def with_weights(kind, config, name: str, *, init: str) -> nn.Module:
    """A network of transformers with fresh weights ('scratch'), or published ones for all but its head ('pretrained').

    Published weights are in model.safetensors of `name` (`published_file`); safetensors alone, so nothing is unpickled.
    Raises InvalidInput for another vocabulary, DataError for weights that are missing, damaged or of another
    network.
    """
    if init == "scratch":
        return kind(config)
    if config.vocab_size != PUBLISHED_VOCABULARY:
        raise InvalidInput(
            f"init 'pretrained' of {name} is for its own {PUBLISHED_VOCABULARY:,} tokens, and the data have "
            f"{config.vocab_size:,}. Use data option tokenizer: bert-base-uncased."
        )
    file = published_file(places.data_dir(), name, "model.safetensors")
    try:
        with _quiet():
            options = {"config": config, "use_safetensors": True, "output_loading_info": True}
            network, report = kind.from_pretrained(file.parent, **options)
    except Exception as error:  # its kinds differ between versions and faults
        raise DataError(f"{file} is damaged or not {name} ({type(error).__name__}). Get it again.") from error
    if lacking := sorted(key for key in report["missing_keys"] if not key.startswith(HEAD)):
        raise DataError(f"{file} lacks {len(lacking)} weights of {name}, first {lacking[0]}. Delete it, get it again.")
    return network


@contextmanager
def _quiet():
    """transformers' bars and report off: that the head is new is what was asked for."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
