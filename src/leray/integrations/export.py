"""A trained run as a folder that `transformers` loads, its tokenizer included.

The tokenizer of bytes is a byte-pair encoding without pairs whose token of byte b has the number b.
A tokenizer file names bytes by printable characters, and byte 0 by the text of the separator: no
other character's UTF-8 has that byte, so that ``tokenizer(text).input_ids`` are the bytes of any
text. As in training, no separator is put before a text: ``tokenizer.bos_token + text`` begins a
document.

Source: Radford et al., Language models are unsupervised multitask learners (2019), for bytes as
printable characters, which `tokenizers` calls ByteLevel.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from leray.errors import LerayError
from leray.integrations.transformers import LerayConfig, LerayForCausalLM
from leray.lm.config import ModelConfig
from leray.runs.files import cannot_write, make_folder
from leray.train.checkpoint import load_trained
from leray.train.configuration import set_settings
from leray.train.tokens import SEPARATOR, SEPARATOR_TEXT, Vocabulary

NUL = "\0"


def export(run: Path, out: Path) -> LerayConfig:
    """Write the model and the tokenizer of a trained run to a new or empty folder.

    Raises:
        LerayError: No model, one that tells classes instead of the next token, or a folder that
            cannot be written.
    """
    trained = load_trained(run)
    config = exported_config(trained.model.config, trained.context)
    make_folder(out)
    if any(out.iterdir()):
        raise LerayError(f"{out} is not empty: give --out an empty or new folder")
    with torch.device("meta"):
        model = LerayForCausalLM(config)
    model.model = trained.model
    try:
        tokenizer_of(trained.vocabulary, trained.context).save_pretrained(out)
        model.save_pretrained(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    return config


def exported_config(model: ModelConfig, context: int) -> LerayConfig:
    """What ``config.json`` says of a model.

    Raises:
        LerayError: A model of classes.
    """
    if model.num_classes is not None:
        raise LerayError(
            f"the model tells {model.num_classes:,} classes, not the next token: what is exported "
            "must write text, num_classes = None"
        )
    return LerayConfig(
        shape=set_settings(model), vocab_size=model.num_tokens, max_position_embeddings=context
    )


def tokenizer_of(vocabulary: Vocabulary, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer whose numbers are those of a vocabulary.

    It pads on the left, as generation wants it, with the separator, which the mask leaves out.
    """
    is_bytes = vocabulary.merges is None
    separator = NUL if is_bytes else SEPARATOR_TEXT
    made = _bytes() if vocabulary.merges is None else Tokenizer.from_str(vocabulary.merges)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=separator,
        eos_token=separator,
        pad_token=separator,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _bytes() -> Tokenizer:
    """Characters that print stand for their own byte, the next 68 for the others in order."""
    letters = sorted(ByteLevel.alphabet())
    own = {ord(c): c for c in letters if ord(c) < 256}
    others = iter(c for c in letters if ord(c) >= 256)
    names = [own.get(b) or next(others) for b in range(256)]
    names[SEPARATOR] = NUL
    made = Tokenizer(BPE(vocab={c: b for b, c in enumerate(names)}, merges=[]))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    made.decoder = ByteLevelDecoder()  # pyright: ignore
    return made
