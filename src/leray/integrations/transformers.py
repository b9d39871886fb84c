"""A trained model as `transformers` loads it: importing this module registers ``leray`` there.

    import leray.integrations.transformers
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

The folder is made by :func:`leray.integrations.export.export` and holds no code: ``config.json``
with the settings of the model, ``model.safetensors``, and a tokenizer. Input and output share one
tensor, so that no loading can untie them.

Padding. A model that is causal does not see what stands to the right, so that padding there changes
nothing before it. A row that is padded on the left by n is turned by n places, so that its text
begins at place 0 as in training, and its logits are turned back: exact for every ingredient, also
for those that count from the beginning. A gap within a row has no such place and is refused.

Generation reads the last ``context`` tokens anew at every step, as `leray.lm.generation` does:
there is no cache, and ``use_cache`` only says so.

Source: Wolf et al., Transformers: state-of-the-art natural language processing (EMNLP 2020), for
the interface; its version 5.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple

from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.train.configuration import settings_of
from leray.train.tokens import SEPARATOR

logger = logging.get_logger(__name__)

Ids = Int[Tensor, "b t"]
Mask = Int[Tensor, "b t"] | Bool[Tensor, "b t"]


@no_type_check  # transformers makes its constructor, which takes more than the fields
class LerayConfig(PreTrainedConfig):
    """The table ``[model]`` of a training run, and what `transformers` asks of every model."""

    model_type = "leray"

    shape: dict | None = None
    """The settings of :class:`leray.lm.config.ModelConfig` but its sizes; None for all defaults."""
    vocab_size: int = 256
    max_position_embeddings: int = 256
    """Tokens of a window in training; generation sees no more."""
    tie_word_embeddings: bool = True
    use_cache: bool = False
    bos_token_id: int | None = SEPARATOR
    eos_token_id: int | list[int] | None = SEPARATOR
    pad_token_id: int | None = SEPARATOR

    def model_config(self) -> ModelConfig:
        """The checked shape.

        Raises:
            LerayError: An unknown setting, or a value of another type.
            ValueError: Settings that do not fit each other, or embeddings that are not tied.
        """
        if not self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings must be true: input and output are one tensor")
        settings = settings_of(ModelConfig, self.shape or {}, "config.json: shape")
        return ModelConfig(num_tokens=self.vocab_size, **settings)

    @property
    def hidden_size(self) -> int:
        return self.model_config().width

    @property
    def num_hidden_layers(self) -> int:
        return self.model_config().num_layers

    @property
    def num_attention_heads(self) -> int:
        return self.model_config().num_heads


class LerayForCausalLM(PreTrainedModel, GenerationMixin):
    """:class:`leray.lm.model.Model` behind the interface of `transformers`.

    New weights are drawn from torch's default generator, which ``transformers.set_seed`` sets.
    """

    config_class = LerayConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012, a list by their convention
    _supports_sdpa = True

    def __init__(self, config: LerayConfig) -> None:
        super().__init__(config)
        empty = torch.get_default_device().type == "meta"
        self.model = Model(config.model_config(), torch.default_generator, draw=not empty)
        for p in self.model.parameters():
            p._is_hf_initialized = not empty  # pyright: ignore[reportAttributeAccessIssue]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Ids,
        attention_mask: Mask | None = None,
        labels: Ids | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss where labels are given.

        Args:
            attention_mask: 0 where a row is padded, on its left, its right or both.
            labels: As ``input_ids``; they are shifted here, and −100 is left out.
            logits_to_keep: So many of the last places, or these places; 0 for all.
            others: ``num_items_in_batch`` for the loss; ``use_cache`` and flags for what there is
                not are taken when they are off.

        Raises:
            ValueError: A gap in the mask, or something that this model does not take.
        """
        self._refuse(others)
        starts = None if attention_mask is None else starts_of(attention_mask)
        if starts is None:
            logits = self.model(input_ids)
        else:
            logits = turned(self.model(turned(input_ids, starts)), -starts)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits,
                labels,
                vocab_size=logits.shape[-1],
                num_items_in_batch=others.get("num_items_in_batch"),
            )
        if isinstance(logits_to_keep, Tensor):
            logits = logits[:, logits_to_keep]
        elif logits_to_keep:
            logits = logits[:, -logits_to_keep:]
        return CausalLMOutputWithPast(loss=loss, logits=logits)  # pyright: ignore

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Ids, attention_mask: Mask | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The last ``max_position_embeddings`` tokens, all of them at every step."""
        if kwargs.get("use_cache"):
            logger.warning_once("use_cache has no effect: a leray model keeps no cache")
        context = self.config.max_position_embeddings
        return {
            "input_ids": input_ids[:, -context:],
            "attention_mask": None if attention_mask is None else attention_mask[:, -context:],
            "logits_to_keep": kwargs.get("logits_to_keep", 0),
        }

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding), "one tensor is read as an embedding and a matrix"
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        """The same module as the input's."""
        return self.model.embedding

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.set_input_embeddings(new_embeddings)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:  # pyright: ignore
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Weights are drawn whole or read whole: one that a file lacks is not made up."""
        for name, p in module.named_parameters(recurse=False):
            if not getattr(p, "_is_hf_initialized", False):
                raise ValueError(
                    f"{name!r} of {type(module).__name__}, {list(p.shape)}, is not among the "
                    "weights: export the run again"
                )

    def _refuse(self, others: dict[str, Any]) -> None:
        ignored = ("use_cache", "num_items_in_batch", "output_attentions", "output_hidden_states")
        for name, value in others.items():
            off = value is None or (name in ignored and (name in ignored[:2] or not value))
            if not off:
                raise ValueError(
                    f"a leray model takes no {name}: allowed are input_ids, attention_mask, labels "
                    "and logits_to_keep"
                )


def starts_of(mask: Mask) -> Int[Tensor, " b"] | None:
    """How many places each row is padded on the left; None where no row is.

    Raises:
        ValueError: A row with a gap.
    """
    kept = mask != 0
    begins = kept[:, 1:] & ~kept[:, :-1]
    if bool((begins.sum(-1) + kept[:, 0] > 1).any()):
        raise ValueError(
            "attention_mask has a gap within a row: pad on the left or on the right; for generate "
            "on the left, since what is generated follows on the right"
        )
    starts = kept.to(torch.int64).argmax(-1)
    return starts if bool(starts.any()) else None


def turned(x: Tensor, by: Int[Tensor, " b"]) -> Tensor:
    """Row i of ``[b, t, …]`` turned to the left by ``by[i]`` places, round the end.

    >>> turned(torch.tensor([[0, 7, 8], [4, 5, 6]]), torch.tensor([1, 0])).tolist()
    [[7, 8, 0], [4, 5, 6]]
    """
    places = (torch.arange(x.shape[1], device=x.device) + by[:, None]) % x.shape[1]
    return x[torch.arange(len(x), device=x.device)[:, None], places]


AutoConfig.register("leray", LerayConfig, exist_ok=True)
AutoModelForCausalLM.register(LerayConfig, LerayForCausalLM, exist_ok=True)
