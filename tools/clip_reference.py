"""Makes the tiny CLIP and the tiny SigLIP that tests compare Mien's pipeline with, by their reference implementation.

Both have random weights: what is compared is how tokens, pixels and vectors come about, not what they mean.
`transformers` computes everything that is expected; nothing here uses Mien. PyTorch is no dependency of Mien, so this
runs in an environment of its own, and what it makes is committed:

    python -m venv /tmp/reference
    /tmp/reference/bin/pip install torch transformers==4.57.6 ftfy sentencepiece protobuf onnx
    /tmp/reference/bin/python tools/clip_reference.py packages/mien/tests/clip
"""

import io
import json
import re
import string
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
)
from transformers.convert_slow_tokenizer import SpmConverter

CORPUS = [
    "a photo of a cat", "a photo of a dog on the beach", "two people in front of a red house", "the old town at night",
    "a bowl of soup with noodles", "an airplane above the clouds", "children playing football in the park",
    "a black and white portrait of a woman", "mountains, a lake and a boat", "a page of text: receipts and numbers",
    "it's raining; they're running", "snow in 1987 and 2024", "une fête à Noël", "ein Mädchen mit Hut", "café tables",
]  # fmt: skip
TEXTS = [
    "a photo of a cat", "A PHOTO OF A DOG", "  two   people \n in front of\ta house ", "it's raining; they're running!",
    "Grüße aus Köln, fête à Noël", "日本の犬 🐕 on the beach", "1987-12-24: 3.50 € (receipt #17)", "snow",
    "<b>bold</b> & more",
    "a very long sentence about mountains and lakes and boats " * 12,
]  # fmt: skip
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
LABELS = ["cat", "dog", "house", "boat on a lake"]
END = "<|endoftext|>"
SIZES = [(150, 100), (100, 181), (96, 96), (40, 30), (333, 64)]
"""Widths and heights: landscape, portrait, exactly the input, to be enlarged, a panorama."""


def drawn(number: int, width: int, height: int) -> Image.Image:
    """A fixed image with edges, a gradient and noise."""
    rng = np.random.default_rng(number)
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 100, width))[..., None] * [1.0, 0.7, 0.4]
    stripes = ((np.arange(width) // 7 + number) % 2 * 60)[None, :, None]
    pixels = ramp + stripes + rng.normal(0, 25, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Weights large enough that different inputs become clearly different vectors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2 and "probe" not in name:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5, generator=generator)


class Half(torch.nn.Module):
    """One half of a model, with the inputs and outputs of the published exports."""

    def __init__(self, call: Any, model: torch.nn.Module) -> None:
        super().__init__()
        self._call = call
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self._call(self.model, *inputs)


def export(path: Path, half: Half, example: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str]) -> None:
    names = {name: {0: "batch_size"} | ({1: "sequence_length"} if "pixel" not in name else {}) for name in inputs}
    axes = names | {name: {0: "batch_size"} for name in outputs}
    buffer = io.BytesIO()
    torch.onnx.export(
        half.eval(), example, buffer, input_names=inputs, output_names=outputs, dynamic_axes=axes, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    path.write_bytes(buffer.getvalue())


# --- CLIP


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer trained on the corpus, written as CLIP's `tokenizer.json`, and its reference: the one in Python."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|startoftext|>", END]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=760, initial_alphabet=alphabet, end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    # As in CLIP: every byte, every byte that ends a word, the merges, and the special tokens last.
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in state["merges"]]
    tokens = [*sorted(alphabet), *(f"{byte}</w>" for byte in sorted(alphabet))]
    tokens += [merge.replace(" ", "") for merge in merges]
    vocabulary = {token: number for number, token in enumerate([*dict.fromkeys(tokens), *specials])}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer.model = models.BPE(
        vocabulary, pairs, end_of_word_suffix="</w>", unk_token=END, continuing_subword_prefix=""
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(specials[1], vocabulary[specials[1]]),
        cls=(specials[0], vocabulary[specials[0]]),
        trim_offsets=False,
        add_prefix_space=False,
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    with tempfile.TemporaryDirectory() as place:
        vocab, rules = Path(place, "vocab.json"), Path(place, "merges.txt")
        vocab.write_text(json.dumps(vocabulary))
        rules.write_text("\n".join(["#version: 0.2", *merges]))
        reference = CLIPTokenizer(str(vocab), str(rules))
    # The reference drops the last line of the file, which ends with one that is empty where it is published.
    reference.bpe_ranks = dict(zip(pairs, range(len(pairs)), strict=True))
    return reference


def make_clip(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = clip_tokenizer(folder)
    eos = tokenizer.eos_token_id
    text = TINY | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "eos_token_id": eos,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": eos,
    }
    vision = TINY | {"image_size": 96, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    randomise(model, 1)
    processor = CLIPImageProcessor(size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96})
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    labels = tokenizer([f"a photo of a {label}" for label in LABELS], padding=True, return_tensors="pt")
    expected(folder, model, processor, encoded, labels, tokenizer)
    ids, mask = encoded["input_ids"][:2], encoded["attention_mask"][:2]
    half = Half(lambda model, ids, mask: model.get_text_features(input_ids=ids, attention_mask=mask), model)
    export(folder / "text.onnx", half, (ids, mask), ["input_ids", "attention_mask"], ["text_embeds"])
    half = Half(lambda model, pixels: model.get_image_features(pixel_values=pixels), model)
    export(folder / "image.onnx", half, (torch.zeros(2, 3, 96, 96),), ["pixel_values"], ["image_embeds"])


# --- SigLIP


class Fast(SpmConverter):
    """What the published `tokenizer.json` was made with: the reference's cleaning of texts as normalisers."""

    def vocab(self, proto: Any) -> list[tuple[str, float]]:
        return [(piece.piece, piece.score) for piece in proto.pieces]

    def normalizer(self, proto: Any) -> Any:
        steps = [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
        if proto.normalizer_spec.precompiled_charsmap:
            steps.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
        return normalizers.Sequence(steps)

    def post_processor(self) -> Any:
        return processors.TemplateProcessing(
            single=["$A", "</s>"], special_tokens=[("</s>", self.original_tokenizer.eos_token_id)]
        )


def siglip_tokenizer(folder: Path) -> SiglipTokenizer:
    with tempfile.TemporaryDirectory() as place:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line.lower() for line in CORPUS] * 20),
            model_prefix=f"{place}/spiece", vocab_size=90,
            model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0,
            normalization_rule_name="nmt_nfkc", minloglevel=2,
        )  # fmt: skip
        reference = SiglipTokenizer(f"{place}/spiece.model", model_input_names=["input_ids"])  # as published: no mask
        converted = Fast(reference).converted()
    converted.add_special_tokens(["</s>", "<unk>"])
    converted.save(str(folder / "tokenizer.json"), pretty=False)
    return reference


def make_siglip(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = siglip_tokenizer(folder)
    text = TINY | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32}
    vision = TINY | {"image_size": 64, "patch_size": 16}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    randomise(model, 2)
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    processor = SiglipImageProcessor(size={"height": 64, "width": 64})
    full = {"padding": "max_length", "truncation": True, "max_length": 64, "return_tensors": "pt"}
    encoded = tokenizer(TEXTS, **full)
    labels = tokenizer([f"a photo of a {label}" for label in LABELS], **full)
    expected(folder, model, processor, encoded, labels, tokenizer)

    def text_half(model: Any, ids: torch.Tensor) -> Any:
        found = model.text_model(input_ids=ids)
        return found.last_hidden_state, found.pooler_output

    def image_half(model: Any, pixels: torch.Tensor) -> Any:
        found = model.vision_model(pixel_values=pixels)
        return found.last_hidden_state, found.pooler_output

    outputs = ["last_hidden_state", "pooler_output"]
    export(folder / "text.onnx", Half(text_half, model), (encoded["input_ids"][:2],), ["input_ids"], outputs)
    export(folder / "image.onnx", Half(image_half, model), (torch.zeros(2, 3, 64, 64),), ["pixel_values"], outputs)


# --- what is expected


def expected(folder: Path, model: Any, processor: Any, encoded: Any, labels: Any, tokenizer: Any) -> None:
    images = [drawn(number, *size) for number, size in enumerate(SIZES)]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    inputs = {"input_ids": encoded["input_ids"]}
    named = {"input_ids": labels["input_ids"]}
    if "attention_mask" in encoded:
        inputs["attention_mask"], named["attention_mask"] = encoded["attention_mask"], labels["attention_mask"]
    with torch.no_grad():
        texts = model.get_text_features(**inputs)
        seen = model.get_image_features(pixel_values=pixels)
        logits = model(pixel_values=pixels, **named).logits_per_image
        scores = torch.sigmoid(logits) if hasattr(model, "logit_bias") else logits.softmax(-1)
    most = encoded["input_ids"].shape[1]
    counts = [len(tokenizer(text, truncation=True, max_length=most)["input_ids"]) for text in TEXTS]
    np.savez_compressed(
        folder / "expected.npz",
        ids=encoded["input_ids"].numpy().astype(np.int32),
        counts=np.array(counts),
        texts=torch.nn.functional.normalize(texts, dim=-1).numpy(),
        pixels=pixels.numpy(),
        images=torch.nn.functional.normalize(seen, dim=-1).numpy(),
        scores=scores.numpy(),
        scale=model.logit_scale.exp().detach().numpy(),
        bias=model.logit_bias.detach().numpy() if hasattr(model, "logit_bias") else np.zeros(0),
    )
    (folder / "texts.json").write_text(
        json.dumps({"texts": TEXTS, "labels": LABELS}, ensure_ascii=False, indent=1) + "\n"
    )
    for number, image in enumerate(images):
        image.save(folder.parent / f"image_{number}.png", optimize=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    torch.manual_seed(0)
    make_clip(target / "tiny_clip")
    make_siglip(target / "tiny_siglip")
