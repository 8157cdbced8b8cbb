"""Writes Whisper models for the tests, for CTranslate2 and whisper.cpp: `tiny_whisper.py ct2|ggml TARGET`.

Whisper's weights are not to be had where the tests run. What can be tried is everything around them, and that with a
model that says the same whatever it hears: nothing reaches the decoder but its positions, and what the model says next
depends on the position alone.
"""

import struct
import sys
from pathlib import Path

import numpy

STATE, HEADS, LAYERS, TEXT_CONTEXT, AUDIO_CONTEXT, MELS = 128, 2, 4, 448, 1500, 80
TEXT_TOKENS, LANGUAGES, VOCABULARY = 50257, 99, 51865
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|language{n}|>" for n in range(LANGUAGES))]
SPECIAL += "<|translate|> <|transcribe|> <|startoflm|> <|startofprev|> <|nospeech|> <|notimestamps|>".split()
SPECIAL[2:5] = ["<|en|>", "<|zh|>", "<|de|>"]
TIMES = [f"<|{n * 0.02:.2f}|>" for n in range(1501)]

# What is said, beginning with what stands at the place of the language that was asked for.
SPEECH = "<|en|> <|transcribe|> <|0.00|> He was <|1.40|> <|1.40|> not ill disposed <|2.80|> <|endoftext|>".split()
WORDS = [word for word in SPEECH if not word.startswith("<")]


def byte_characters():
    """The printable characters by which byte-level tokens spell each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tokens():
    """All of them as byte-level text: each byte, the words, and fillers."""
    spelled = byte_characters()
    text = spelled + [spelled[32] + word for word in WORDS]
    text += [f"filler{number}" for number in range(len(text), TEXT_TOKENS - 1)]
    # By the empty one a model of many languages is known.
    text.append("")
    return text + SPECIAL + TIMES


def numbers():
    """What differs from zero: how tokens look, and what is shown at each position."""
    ids = {token: number for number, token in enumerate(tokens())}
    space = byte_characters()[32]
    embedding = numpy.random.default_rng(7).normal(size=(VOCABULARY, STATE))
    embedding -= embedding.mean(axis=1, keepdims=True)
    embedding *= 4 / numpy.linalg.norm(embedding, axis=1, keepdims=True)
    positions = numpy.zeros((TEXT_CONTEXT, STATE))
    for place in range(TEXT_CONTEXT):
        word = SPEECH[min(place, len(SPEECH) - 1)]
        positions[place] = 100 * embedding[ids[space + word if word in WORDS else word]]
    return embedding, positions


def zeros(*shape):
    return numpy.zeros(shape, numpy.float32)


def write_ct2(folder):
    from ctranslate2.specs import WhisperSpec

    embedding, positions = (part.astype(numpy.float32) for part in numbers())
    spec = WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    spec.encoder.conv1.weight, spec.encoder.conv1.bias = zeros(STATE, MELS, 3), zeros(STATE)
    spec.encoder.conv2.weight, spec.encoder.conv2.bias = zeros(STATE, STATE, 3), zeros(STATE)
    spec.encoder.position_encodings.encodings = zeros(AUDIO_CONTEXT, STATE)
    spec.decoder.position_encodings.encodings = positions
    spec.decoder.embeddings.weight = embedding
    spec.decoder.projection.weight = embedding

    def norm(one):
        one.gamma, one.beta = zeros(STATE) + 1, zeros(STATE)

    def linear(one, rows, columns):
        one.weight, one.bias = zeros(rows, columns), zeros(rows)

    def common(layer):
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], 3 * STATE, STATE)
        linear(layer.self_attention.linear[1], STATE, STATE)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, 4 * STATE, STATE)
        linear(layer.ffn.linear_1, STATE, 4 * STATE)

    norm(spec.encoder.layer_norm)
    norm(spec.decoder.layer_norm)
    for layer in spec.encoder.layer:
        common(layer)
    for layer in spec.decoder.layer:
        common(layer)
        norm(layer.attention.layer_norm)
        for index, rows in enumerate((STATE, 2 * STATE, STATE)):
            linear(layer.attention.linear[index], rows, STATE)
    spec.register_vocabulary(tokens())
    first = tokens().index("<|en|>")
    spec.config.lang_ids = list(range(first, first + LANGUAGES))
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    Path(folder).mkdir(parents=True)
    spec.save(str(folder))
    write_tokenizer(Path(folder) / "tokenizer.json")


def write_tokenizer(path):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens()[:TEXT_TOKENS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TIMES])
    tokenizer.save(str(path))


def write_ggml(path):
    embedding, positions = numbers()
    spelled = {character: byte for byte, character in enumerate(byte_characters())}
    with open(path, "wb") as file:

        def integers(*values):
            file.write(struct.pack(f"{len(values)}i", *values))

        def tensor(name, values):
            half = values.ndim > 1 and name.endswith("weight")
            integers(values.ndim, len(name), int(half))
            integers(*reversed(values.shape))
            file.write(name.encode())
            file.write(values.astype(numpy.float16 if half else numpy.float32).tobytes())

        def norm(name):
            tensor(f"{name}.weight", zeros(STATE) + 1)
            tensor(f"{name}.bias", zeros(STATE))

        def linear(name, rows, columns, bias=True):
            tensor(f"{name}.weight", zeros(rows, columns))
            if bias:
                tensor(f"{name}.bias", zeros(rows))

        def attention(name):
            norm(f"{name}_ln")
            for part in ("query", "key", "value", "out"):
                linear(f"{name}.{part}", STATE, STATE, bias=part != "key")

        audio, text = (AUDIO_CONTEXT, STATE, HEADS, LAYERS), (TEXT_CONTEXT, STATE, HEADS, LAYERS)
        integers(0x67676D6C, VOCABULARY, *audio, *text, MELS, 1)
        integers(MELS, 201)
        file.write(zeros(MELS, 201).tobytes())
        integers(TEXT_TOKENS)
        for token in tokens()[:TEXT_TOKENS]:
            data = bytes(spelled[character] for character in token)
            integers(len(data))
            file.write(data)
        tensor("encoder.positional_embedding", zeros(AUDIO_CONTEXT, STATE))
        for name, columns in (("encoder.conv1", MELS), ("encoder.conv2", STATE)):
            tensor(f"{name}.weight", zeros(STATE, columns, 3))
            tensor(f"{name}.bias", zeros(STATE, 1))
        norm("encoder.ln_post")
        tensor("decoder.positional_embedding", positions)
        tensor("decoder.token_embedding.weight", embedding)
        norm("decoder.ln")
        for side in ("encoder", "decoder"):
            for layer in range(LAYERS):
                block = f"{side}.blocks.{layer}"
                attention(f"{block}.attn")
                if side == "decoder":
                    attention(f"{block}.cross_attn")
                norm(f"{block}.mlp_ln")
                linear(f"{block}.mlp.0", 4 * STATE, STATE)
                linear(f"{block}.mlp.2", STATE, 4 * STATE)


if __name__ == "__main__":
    {"ct2": write_ct2, "ggml": write_ggml}[sys.argv[1]](sys.argv[2])
