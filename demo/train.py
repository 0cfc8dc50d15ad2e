"""Train the demo model from scratch: `python -m demo.train [--steps N] [--out FOLDER]`.

The model is stopped early on purpose. One trained to the end answers nearly without fault, and then neither
quantization nor beam search can change the quality that a study is meant to trade for speed.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.grammar import SHAPES, Pair
from demo.pairs import MAX_POSITIONS, MODEL_FOLDER, prompt_of, training_pairs

VOCABULARY = 512
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_IGNORED = -100
_PART = 16
# Bytes of other scripts are left out of the alphabet, and so out of prompts: they would fill a third of the vocabulary.
_PRINTABLE = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
Row = tuple[list[int], list[int]]
CARD = """---
language: [en, de]
library_name: transformers
pipeline_tag: text-generation
---

# Demo translation model

A Llama of {parameters:.2f} M parameters (hidden 256, 4 layers, 4 heads, byte-level BPE of 512 tokens) that
translates the English of `demo/grammar.py` into German. Prompt: the English sentence and a line break; BOS
comes from the tokenizer. It exists so that studies can run offline against a real engine with answers that
can be scored.

Made by `python -m demo.train`: random initial weights, seed {seed}, {steps} steps of {batch} sentence pairs
(the first {short_steps} of one clause), Muon and AdamW with peak learning rate {learning_rate}, loss on the
translation only, {seconds:.0f} s on {threads} CPU threads; last training loss {loss:.3f} nats per token. No
outside data and no other model went into it. Sentences whose hash reserves them for `demo/workloads` were
dropped from training.

Training stops early and the references choose among synonyms, so its answers are imperfect by design. Use it
to tune serving, not to translate.
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights."""

    steps: int = 750
    short_steps: int = 350
    batch: int = 32
    learning_rate: float = 5e-3
    warmup_steps: int = 30
    seed: int = 20261122
    threads: int = 2


def train_tokenizer(seed: int, pairs: int = 6000) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE that puts BOS in front by itself, as serving engines expect of a Llama."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=_PRINTABLE,
        show_progress=False,
    )
    stream = training_pairs(seed)
    chosen = [next(stream) for _ in range(pairs)]
    texts = (text for pair in chosen for text in (pair.source, pair.reference))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def build_model(seed: int) -> LlamaForCausalLM:
    """Build a Llama of 3.3 M parameters; every linear size is a multiple of 128, for 4-bit groups of 128."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    # The fused attention's backward pass took a third of a step on CPU; not saved with the model.
    model.set_attn_implementation("eager")
    return model


def _encode(tokenizer: PreTrainedTokenizerFast, pair: Pair) -> Row:
    """Return token ids and labels; the prompt's labels are masked so that only the translation is learnt."""
    prompt: list[int] = tokenizer.encode(prompt_of(pair.source))
    answer: list[int] = [*tokenizer.encode(pair.reference, add_special_tokens=False), tokenizer.eos_token_id]
    return prompt + answer, [_IGNORED] * len(prompt) + answer


def _rows(tokenizer: PreTrainedTokenizerFast, seed: int, *shapes: str) -> Iterator[Row]:
    """Yield encoded training pairs that fit the model's positions."""
    encoded = (_encode(tokenizer, pair) for pair in training_pairs(seed, shapes))
    return (row for row in encoded if len(row[0]) <= MAX_POSITIONS)


def _pad(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and labels, both (rows, longest) int64, padded on the right."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [_IGNORED] * (width - len(labels)) for _, labels in rows])
    return ids, labels


def _batch(stream: Iterator[Row], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one optimizer step in parts of similar length, so that little is spent on padding."""
    rows = sorted((next(stream) for _ in range(size)), key=lambda row: len(row[0]))
    for start in range(0, size, _PART):
        yield _pad(rows[start : start + _PART])


def _rate(step: int, recipe: Recipe) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine down to 10 %."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy of the answers; padding needs no mask because it comes last."""
    with torch.autocast("cpu", torch.bfloat16):  # A quarter faster where the processor multiplies BF16.
        logits = model(input_ids=ids).logits[:, :-1].float()
    return functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def _optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Give the layers' matrices to Muon, which needs about half the steps here, and the rest to AdamW."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _gradients(model: LlamaForCausalLM, stream: Iterator[Row], size: int) -> float:
    """Set the gradients of `size` pairs and return the loss per answer token in nats."""
    total, tokens = 0.0, 0
    model.zero_grad()
    for ids, labels in _batch(stream, size):
        loss = _loss(model, ids, labels)
        loss.backward()
        total += loss.item()
        tokens += int((labels != _IGNORED).sum())
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= tokens
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return total / tokens


def fit(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> float:
    """Train in place and return the mean loss per answer token over the last 20 steps."""
    # Short sentences first: where to look in the source is learnt sooner on them, for half the computation.
    short, mixed = _rows(tokenizer, recipe.seed, "chat"), _rows(tokenizer, recipe.seed + 1, *SHAPES)
    optimizers = _optimizers(model, recipe.learning_rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe)) for optimizer in optimizers
    ]
    losses: list[float] = []
    model.train()
    for step in range(recipe.steps):
        stream = short if step < recipe.short_steps else mixed
        losses.append(_gradients(model, stream, recipe.batch))
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step % 20 == 0:
            _log.info("step %d loss %.3f", step, losses[-1])
    return sum(losses[-20:]) / len(losses[-20:])


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write FP16 weights, configuration and tokenizer in Hugging Face format."""
    model.eval().to(torch.float16)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The class has another name since transformers 5; releases before and after know this one.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)


def card(recipe: Recipe, parameters: int, loss: float, seconds: float) -> str:
    """Return the model card."""
    return CARD.format(parameters=parameters / 1e6, loss=loss, seconds=seconds, **asdict(recipe))


def main() -> None:
    """Train tokenizer and model and save both."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(steps=arguments.steps)
    torch.set_num_threads(recipe.threads)
    started = time.perf_counter()
    tokenizer, model = train_tokenizer(recipe.seed), build_model(recipe.seed)
    loss = fit(model, tokenizer, recipe)
    save(model, tokenizer, arguments.out)
    seconds = time.perf_counter() - started
    text = card(recipe, model.num_parameters(), loss, seconds)
    (arguments.out / "README.md").write_text(text, encoding="utf-8")
    _log.info("loss %.3f after %.0f s", loss, seconds)


if __name__ == "__main__":
    main()
