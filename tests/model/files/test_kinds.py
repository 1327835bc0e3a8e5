"""A file that is no SAM 2 checkpoint is called by its name, with what to do."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2ft.core.errors import CheckpointError
from sam2ft.model.files.kinds import Format, format_of
from sam2ft.model.files.read import read_weight_file

ONE = torch.zeros(1)


def lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")


def archived(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())


def script(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")


def cut(path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


FILES = {
    "git-lfs": (lfs, r"a pointer of git-lfs .*`git lfs pull`"),
    "a git-lfs pointer of few bytes": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
        "git-lfs",
    ),
    "HTML": (
        lambda path: path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>"),
        "a web page .* failed download",
    ),
    "HTML with a mark and spaces": (
        lambda path: path.write_bytes(b"\xef\xbb\xbf\n <HTML lang=en></HTML>"),
        "a web page",
    ),
    "XML": (
        lambda path: path.write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
        "failed download",
    ),
    "JSON": (
        lambda path: path.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}})),
        "index of weights",
    ),
    "empty": (lambda path: path.write_bytes(b""), r"no bytes.*copy it again"),
    "zeros": (lambda path: path.write_bytes(bytes(9000)), "begins with 4096 zeros"),
    "text": (
        lambda path: path.write_text("These are not weights."),
        "is a text file, not a checkpoint; give a file of weights",
    ),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(100)), "compressed by gzip; unpack it"),
    "tar": (archived, "a tar archive; unpack it"),
    "NumPy": (lambda path: np.save(path.open("wb"), np.ones(3)), "a NumPy array"),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.5.0"), "an ONNX model"),
    "TorchScript": (script, r"a TorchScript archive.*torch\.jit\.load"),
    "another zip": (other_zip, r"a zip file without weights.*word/document\.xml"),
    "cut off": (cut, "not a checkpoint that can be read safely .*copy or download it again"),
    "a plain pickle": (
        lambda path: path.write_bytes(b"\x80\x04}\x94\x8c\x01a\x94K\x01s." + bytes(9)),
        "torch.save did not write",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path, name):
    write, said = FILES[name]
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(CheckpointError, match=f"weights.pt: .*{said}") as caught:
        read_weight_file(path)
    assert str(caught.value).isprintable()


def test_a_folder_names_the_checkpoints_in_it(tmp_path):
    with pytest.raises(CheckpointError, match=r"a folder; give the checkpoint file in it .it holds none"):
        format_of(tmp_path)
    for name in ("b.pt", "a.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"found a\.safetensors, b\.pt\)"):
        format_of(tmp_path)
    (tmp_path / "__0_0.distcp").touch()
    with pytest.raises(CheckpointError, match="dcp_to_torch"):
        format_of(tmp_path)
    with pytest.raises(CheckpointError, match="no such file; `make weights`"):
        format_of(tmp_path / "none.pt")


MODELS = {
    "SAM 1": (
        ["image_encoder.pos_embed", "image_encoder.blocks.0.norm1.weight", "mask_decoder.iou_token.weight"],
        "is a SAM 1",
    ),
    "MedSAM in a wrapper": (
        ["image_encoder.patch_embed.proj.weight", "prompt_encoder.no_mask_embed.weight"],
        "is a SAM 1",
    ),
    "MobileSAM": (["image_encoder.layers.0.blocks.0.mlp.fc1.weight"], "is a SAM 1"),
    "SAM-HQ": (["image_encoder.blocks.0.norm1.weight", "mask_decoder.hf_token.weight"], "is a SAM-HQ"),
    "SAM 1 of transformers": (["vision_encoder.layers.0.attn.qkv.weight"], "is a SAM 1 checkpoint of the library"),
    "SAM 2 of transformers": (
        ["vision_encoder.backbone.blocks.0.attn.qkv.weight", "no_memory_embedding"],
        "is a SAM 2 checkpoint of the library",
    ),
    "SAM 3": (["detector.backbone.vision_backbone.trunk.pos_embed", "tracker.maskmem_tpos_enc"], "is a SAM 3"),
    "peft of SAM 2": (["base_model.model.image_encoder.trunk.blocks.0.attn.qkv.lora_A.weight"], "merge_and_unload"),
    "peft": (["base_model.model.image_encoder.x.lora_A.weight"], "merge_and_unload"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_checkpoints_of_other_models_are_named_with_what_to_do(tmp_path, name, ending):
    names, said = MODELS[name]
    path, tensors = tmp_path / f"model{ending}", {one: torch.zeros(1) for one in names}
    if ending == ".pth":
        torch.save({"model": {f"module.{one}": tensor for one, tensor in tensors.items()}, "epoch": 1}, path)
    else:
        save_file(tensors, path)
    with pytest.raises(CheckpointError, match=said):
        read_weight_file(path)


def test_the_ending_of_a_name_decides_nothing(tmp_path):
    save_file({"w": ONE}, tmp_path / "a.pt")
    torch.save({"w": ONE}, tmp_path / "b.safetensors")
    torch.save({"w": ONE}, tmp_path / "c", _use_new_zipfile_serialization=False)
    assert format_of(tmp_path / "a.pt") is Format.SAFETENSORS
    assert format_of(tmp_path / "b.safetensors") is format_of(tmp_path / "c") is Format.TORCH
    for name in ("a.pt", "b.safetensors", "c"):
        assert read_weight_file(tmp_path / name).tensors == {"w": ONE}
